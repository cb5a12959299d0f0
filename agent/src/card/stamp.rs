//! `cygnet.txt`: what was taken and what was ignored, beside the file that the person wrote. Pure.

use super::choose::Chapter;

/// The file; 8.3, so that it has no second name.
pub const NAME: &str = "cygnet.txt";
/// What it is called until it is whole.
pub const NEW: &str = "CYGNET.TMP";

/// Its text, with the line ends of Windows. `notes` are about all files.
pub fn text(chapters: &[Chapter], notes: &[String]) -> String {
    let mut out = format!(
        "cygnetd {} has read the settings on this card. To change something, write a new\ncygnet.toml and start the Pi \
         again. What that does not mention stays as it is; the\nnetworks in it are all that are known then. A network \
         without a passphrase there\nkeeps the one that was taken before.\n",
        env!("CARGO_PKG_VERSION")
    );
    for chapter in chapters {
        out.push_str(&format!("\n{}\n", chapter.name));
        if chapter.lines.is_empty() {
            out.push_str("  nothing in it\n");
        }
        for line in &chapter.lines {
            out.push_str(&format!("  {}\n", line.text));
        }
    }
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        out.push_str(note);
        out.push('\n');
    }
    out.replace('\n', "\r\n")
}
