//! `docs/security.md` makes no claim without a test that holds it.

use std::path::Path;

#[test]
fn every_claim_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut count = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((file, name)) = quoted.split_once(": ").filter(|(file, _)| file.ends_with(".rs")) else { continue };
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {name}(")), "{file} has no test called {name}");
        count += 1;
    }
    assert!(count > 40, "{count}");
}
