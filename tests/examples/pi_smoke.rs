//! Boots the virtual Pi once and looks around; needs root.

fn main() -> anyhow::Result<()> {
    cygnet_tests::pi::smoke()
}
