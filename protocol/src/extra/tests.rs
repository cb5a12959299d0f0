//! What an archive may be, and what hostile ones are.

use super::*;
use crate::message::Request;

fn directory(path: &str) -> Entry {
    Entry::Directory { path: path.into(), mode: 0o755 }
}

fn file(path: &str, size: u64) -> Entry {
    Entry::File { path: path.into(), mode: 0o600, size }
}

fn link(path: &str, to: &str) -> Entry {
    Entry::Link { path: path.into(), to: to.into() }
}

/// An archive of these, each file full of one letter.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        frame::send(&mut bytes, entry).unwrap();
        bytes.resize(bytes.len() + usize::try_from(entry.size()).unwrap(), b'x');
    }
    bytes
}

fn count(archive: &[u8]) -> Result<Count, Unfit> {
    read(&mut &archive[..], |_, _| Ok(()))
}

fn admitted(entries: &[Entry]) -> Result<Count, Unfit> {
    let mut checker = Checker::default();
    entries.iter().try_for_each(|entry| checker.admit(entry, 100))?;
    Ok(checker.count())
}

#[test]
fn a_tree_is_read_as_it_was_written() {
    let entries = [
        directory("etc"),
        directory("etc/ssh"),
        file("etc/ssh/key", 5),
        link("etc/ssh/other", "key"),
        file("etc/x", 0),
        // Behind all of what is in `etc`, though a hyphen comes before a slash.
        directory("etc-more"),
        file("root-file", 3),
    ];
    let mut seen = Vec::new();
    let visit = |entry: &Entry, bytes: &mut dyn Read| {
        let mut content = Vec::new();
        // Of the last one, not all is read.
        bytes.take(4).read_to_end(&mut content).map_err(|_| Unfit::Damaged)?;
        seen.push((entry.clone(), content.len()));
        Ok::<_, Unfit>(())
    };
    let count = read(&mut archive(&entries).as_slice(), visit).unwrap();
    assert_eq!(count, Count { files: 3, links: 1, directories: 3, bytes: 8 });
    assert_eq!(count.to_string(), "3 files, 1 link, 3 directories (8 bytes)");
    assert_eq!(seen.iter().map(|(entry, _)| entry).collect::<Vec<_>>(), entries.iter().collect::<Vec<_>>());
    assert_eq!(seen.iter().map(|(_, read)| *read).collect::<Vec<_>>(), [0, 0, 4, 0, 0, 0, 3]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let long = "n".repeat(MAX_NAME + 1);
    let deep = "d/".repeat(MAX_PATH / 2) + "d";
    for bad in [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "etc/../../x",
        "etc/..",
        ".",
        "./x",
        "etc//x",
        "etc/",
        "a\nb",
        "a\0b",
        "a\u{9b}b",
        "nix/store",
        "nix/store/x",
        "nix/store/x/y",
        "etc/.cygnet-unfinished",
        ".cygnet-unfinished/x",
        &long,
        &deep,
    ] {
        assert!(bad_path(bad, false).is_some() && bad_path(bad, true).is_some(), "{bad:?} was let in");
        let fault = Fault::from(admitted(&[file(bad, 0)]).unwrap_err());
        assert_eq!(fault.code, FaultCode::BadExtraFiles);
        assert!(fault.what.contains(&format!("{bad:?}")), "{fault}");
    }
    for good in ["x", "etc/..x", "nix/storeroom", "nix/var/x", "var/nix/store", "ä ö", ".hidden", "...", &long[1..]] {
        assert_eq!(bad_path(good, false), None, "{good:?}");
    }
    assert!(bad_path("nix", false).is_some() && bad_path("nix", true).is_none());
}

#[test]
fn what_is_no_tree_is_refused() {
    for (bad, at) in [
        (&[file("a", 1), file("a", 1)][..], "a"),
        (&[directory("a"), directory("a")], "a"),
        (&[directory("a"), file("a/b", 1), directory("a")], "a"),
        (&[directory("a"), file("a/b", 1), link("a/b", "x")], "a/b"),
        (&[file("b", 1), file("a", 1)], "a"),
        (&[directory("a"), directory("b"), file("a/x", 1)], "a/x"),
        (&[file("a/b", 1)], "a/b"),
        (&[directory("b"), file("a/b", 1)], "a/b"),
        // Below a file, and below a link: that would be laid wherever the link leads.
        (&[file("a", 1), file("a/b", 1)], "a/b"),
        (&[link("a", "/etc"), file("a/passwd", 1)], "a/passwd"),
        (&[directory("a"), link("a/b", "/etc"), directory("a/b/c")], "a/b/c"),
        (&[directory("a"), directory("a/b"), file("a/c", 1), file("a/b/d", 1)], "a/b/d"),
    ] {
        assert_eq!(admitted(bad), Err(Unfit::Order { path: at.into() }), "{bad:?}");
        assert_eq!(count(&archive(bad)), Err(Unfit::Order { path: at.into() }), "{bad:?}");
    }
}

#[test]
fn bits_that_give_power_and_links_that_nobody_can_print_are_refused() {
    for mode in [0o4755, 0o2755, 0o1777, 0o10_0644, u32::MAX] {
        let set = Entry::File { path: "x".into(), mode, size: 0 };
        assert_eq!(admitted(&[set]), Err(Unfit::Mode { path: "x".into() }), "{mode:o}");
        let set = Entry::Directory { path: "x".into(), mode };
        assert_eq!(admitted(&[set]), Err(Unfit::Mode { path: "x".into() }), "{mode:o}");
    }
    for to in ["", "a\nb", "a\0b", &"l".repeat(MAX_LINK + 1)] {
        assert_eq!(admitted(&[link("x", to)]), Err(Unfit::Link { path: "x".into() }));
    }
    // Where it leads is the installed system's business.
    assert!(admitted(&[link("x", "/etc/../nix/store"), link("y", &"l".repeat(MAX_LINK))]).is_ok());
}

#[test]
fn what_is_too_much_is_refused_before_it_is_kept() {
    let mut checker = Checker::default();
    for number in 0..MAX_ENTRIES {
        checker.admit(&file(&format!("f{number:05}"), 1), 50).unwrap();
    }
    assert_eq!(checker.admit(&file("g", 1), 50), Err(Unfit::TooMany { path: "g".into() }));

    assert!(admitted(&[file("a", MAX_BYTES - 100)]).is_ok());
    for sizes in [[MAX_BYTES - 99, 0], [MAX_BYTES - 200, 1], [u64::MAX, 0], [u64::MAX - 100, 1], [1, u64::MAX - 101]] {
        let two = [file("a", sizes[0]), file("b", sizes[1])];
        let refused = admitted(&two).unwrap_err();
        assert!(matches!(refused, Unfit::TooLarge { path: Some(_) }), "{sizes:?}: {refused}");
        assert!(Fault::from(refused).what.contains("64 MiB"));
    }
    // Nobody allocates what a line only says.
    let said = format!("{}\nx", serde_json::to_string(&file("a", MAX_BYTES - 100)).unwrap());
    assert_eq!(count(said.as_bytes()), Err(Unfit::Damaged));

    assert_eq!(check_size(0), Err(Unfit::Damaged));
    assert!(check_size(1).is_ok() && check_size(MAX_BYTES).is_ok());
    assert_eq!(check_size(MAX_BYTES + 1), Err(Unfit::TooLarge { path: None }));
    assert!(check_size(u64::MAX).is_err());
}

#[test]
fn a_damaged_archive_is_never_quoted() {
    let whole = archive(&[directory("a"), file("a/b", 9), link("c", "d")]);
    for length in 0..whole.len() {
        match count(&whole[..length]) {
            Ok(part) => assert!(part.entries() < 3, "{length} bytes are taken for all of it"),
            Err(error) => assert_eq!(error, Unfit::Damaged, "{length}"),
        }
    }
    for garbage in [
        "hunter2\n",
        "{\"type\":\"file\",\"path\":\"hunter2\"}\n",
        "{\"type\":\"fifo\",\"path\":\"hunter2\",\"mode\":0}\n",
        "{\"type\":\"link\",\"path\":\"a\",\"to\":\"b\",\"hunter2\":0}\n",
        "{\"type\":\"file\",\"path\":\"a\",\"mode\":0,\"size\":-1}\n",
    ] {
        let fault = Fault::from(count(garbage.as_bytes()).unwrap_err());
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
    let endless = [b"{\"type\":\"link\",\"path\":\"".to_vec(), vec![b'x'; 1 << 20]].concat();
    assert_eq!(count(&endless), Err(Unfit::Damaged));
}

#[test]
fn a_piece_has_its_limit_and_is_not_shown() {
    let request = |size: usize| {
        let bytes = Secret::new(vec![7; size]);
        serde_json::to_vec(&Request::ExtraFiles { id: 1, at: 0, total: 9, bytes }).unwrap()
    };
    let line = request(MAX_PIECE);
    assert!(line.len() < frame::MAX_LINE / 2);
    let parsed = Request::parse(&line).unwrap();
    assert!(format!("{parsed:?}").contains("Secret(…)"));
    assert!(Request::parse(&request(MAX_PIECE + 1)).is_err() && Request::parse(&request(MAX_PIECE + 9)).is_err());
    for wrong in [r#""hunter2!""#, r#"["hunter2"]"#, r#"{"hunter2":1}"#] {
        let line = format!(r#"{{"type":"extra-files","id":1,"at":0,"total":9,"bytes":{wrong}}}"#);
        let error = Request::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("base64"), "{error}");
    }
}
