//! Boots a virtual Pi that has a radio and no cable, and looks around; needs root.

fn main() -> anyhow::Result<()> {
    cygnet_tests::pi::air::smoke::smoke()
}
