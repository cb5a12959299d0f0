//! The function that makes plain data of `config.disko.devices`, run by the real Nix on a tree with all that disko
//! hangs on its own: functions, derivations, cyclic links, internal attributes.

use std::process::Command;

const TREE: &str = r#"
let
  node = rec {
    _create = "script";
    _parent = { _create = ""; content = node; };
    _packages = throw "never looked at";
    _meta = x: x;
    _name = "pool/name";
    _createFilesystem = true;
    type = "gpt";
    hook = "";
    nothing = null;
    number = 3;
    callable = { __functor = self: x: x; };
    function = x: x;
    list = [ 1 { _create = ""; _drop = 1; keep = 2; } ];
    key = /etc/hostname;
    package = { type = "derivation"; outPath = "/nix/store/x"; drvPath = throw "never looked at"; };
    children = { _u = { _create = ""; type = "zfs_fs"; }; __root = { _create = ""; type = "zfs_fs"; }; _index = 1; };
  };
in
{ disk = { _main = node; }; nodev = { }; }
"#;

#[test]
fn what_a_person_wrote_stays_and_what_is_diskos_goes() {
    let expression = format!("({}) ({TREE})", include_str!("../src/nix/clean-devices.nix"));
    let output = Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--expr", &expression])
        .output()
        .expect("this test needs Nix: `apt install nix-bin` on Debian");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{stderr}"));
    let expected = serde_json::json!({
        "disk": { "_main": {
            "_name": "pool/name",
            "_createFilesystem": true,
            "type": "gpt",
            "hook": "",
            "nothing": null,
            "number": 3,
            "list": [1, { "keep": 2 }],
            "key": "/etc/hostname",
            "package": "/nix/store/x",
            "children": { "_u": { "type": "zfs_fs" }, "__root": { "type": "zfs_fs" }, "_index": 1 },
        } },
        "nodev": {},
    });
    assert_eq!(value, expected);
}
