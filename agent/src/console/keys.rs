//! What is typed on a console, as a state machine over bytes.
//!
//! A line without anybody at its end emits noise, at power-up above all, and terminals answer by themselves: nothing that
//! comes by chance may do harm or leave a prompt open. What harms is asked for in words, what is unknown is ignored.

use cygnet_protocol::online::country;
use cygnet_protocol::online::observation::Bss;
use cygnet_protocol::online::settings::{Key, Network};
use cygnet_protocol::online::ssid::Ssid;

/// The most bytes of a line; more than any network's name, escaped, needs.
const MAX_TYPED: usize = 256;

/// What the keys are about at this moment.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// What is in the air, the strongest first: as listed, one for each name.
    pub seen: Vec<Bss>,
    /// Whether a country is known.
    pub has_country: bool,
    /// Whether a shell may be opened.
    pub shell: bool,
}

/// Where a person is.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct State {
    prompt: Prompt,
    typed: Vec<u8>,
    escape: Escape,
    after_return: bool,
}

#[derive(Clone, PartialEq, Eq, Default)]
enum Prompt {
    /// One key, one command.
    #[default]
    None,
    /// Which network?
    Name,
    /// In which country?
    Country(Chosen),
    /// With which passphrase?
    Passphrase(Chosen, Option<String>),
    /// A shell, really?
    Shell,
}

/// Never what was typed, which may be a passphrase.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.prompt {
            Prompt::None => "None",
            Prompt::Name => "Name",
            Prompt::Country(_) => "Country",
            Prompt::Passphrase(..) => "Passphrase",
            Prompt::Shell => "Shell",
        })
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Chosen {
    ssid: Ssid,
    open: bool,
    hidden: bool,
}

/// Inside an escape sequence (ECMA-48), which a cursor key or a terminal's answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Escape {
    #[default]
    No,
    Begun,
    Control,
    One,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Show this, as it is.
    Say(String),
    /// The screen.
    Status,
    /// Look what is in the air.
    Scan,
    /// Begin the remedies anew.
    Retry,
    /// The last events.
    Log,
    /// The report.
    Doctor,
    /// A root shell on this terminal.
    Shell,
    /// The keys.
    Help,
    /// Join this network.
    Join {
        /// The network.
        network: Network,
        /// ISO 3166-1, if one was typed.
        country: Option<String>,
    },
}

impl State {
    /// Whether a person is in the middle of an answer: nothing should be printed over it.
    pub fn is_prompt(&self) -> bool {
        self.prompt != Prompt::None
    }
}

/// The prompt is left when nobody typed for a while.
pub fn expire(state: State) -> (State, Action) {
    if state.is_prompt() {
        (State::default(), Action::Say("\nNobody typed for 3 minutes; nothing was changed.\n".into()))
    } else {
        (State::default(), Action::None)
    }
}

/// What one byte does.
pub fn step(mut state: State, byte: u8, context: &Context) -> (State, Action) {
    match (state.escape, byte) {
        (Escape::No, 0x1b) => {
            state.escape = Escape::Begun;
            return (state, Action::None);
        }
        (Escape::No, _) => {}
        (Escape::Begun, b'[') => {
            state.escape = Escape::Control;
            return (state, Action::None);
        }
        (Escape::Begun, b'O') => {
            state.escape = Escape::One;
            return (state, Action::None);
        }
        // A lone Esc, and then a line's end or an interrupt, which must work whatever came before.
        (_, b'\r' | b'\n' | 0x03) => state.escape = Escape::No,
        (Escape::Control, b' '..=b'?') => return (state, Action::None),
        (Escape::Begun | Escape::One | Escape::Control, _) => {
            state.escape = Escape::No;
            return (state, Action::None);
        }
    }
    let after_return = std::mem::replace(&mut state.after_return, byte == b'\r');
    if byte == b'\n' && after_return {
        return (state, Action::None);
    }
    if state.prompt == Prompt::None { command(state, byte, context) } else { edit(state, byte, context) }
}

fn command(mut state: State, byte: u8, context: &Context) -> (State, Action) {
    let action = match byte {
        b's' => Action::Status,
        b'w' => Action::Scan,
        b'r' => Action::Retry,
        b'l' => Action::Log,
        b'd' => Action::Doctor,
        b'?' => Action::Help,
        b'n' => {
            state.prompt = Prompt::Name;
            Action::Say(format!("\n{}{}", list(&context.seen), question(&state)))
        }
        b'x' if context.shell => {
            state.prompt = Prompt::Shell;
            Action::Say(format!("\n{}", question(&state)))
        }
        b'x' => Action::Say(
            "\nNo shell here: the settings of this image do not allow one.\n\
             Set console.shell = true in them, or log in with ssh.\n"
                .into(),
        ),
        _ => Action::None,
    };
    (state, action)
}

fn question(state: &State) -> String {
    match &state.prompt {
        Prompt::None => String::new(),
        Prompt::Name => "Network, by its number or name (Ctrl-C leaves): ".into(),
        Prompt::Country(_) => "Country, two letters like DE (Enter if not known): ".into(),
        Prompt::Passphrase(chosen, _) if chosen.hidden => {
            "Passphrase, which is not shown (or the word open, if it needs none): ".into()
        }
        Prompt::Passphrase(..) => "Passphrase, which is not shown: ".into(),
        Prompt::Shell => "A root shell on this terminal, for whoever sits here. Type yes: ".into(),
    }
}

/// The networks with their numbers.
pub fn list(seen: &[Bss]) -> String {
    if seen.is_empty() {
        return "No network was seen; w looks what is in the air.\n".into();
    }
    let row = |(number, bss): (usize, &Bss)| {
        let name = bss.ssid.as_ref().map_or_else(|| "(hidden)".into(), |ssid| format!("“{ssid}”"));
        let keys = if bss.key_mgmt.is_empty() { "open".into() } else { bss.key_mgmt.join(" ") };
        format!("{:>3}  {:>4} dBm  {:>4} MHz  {name}  {keys}\n", number + 1, bss.signal, bss.frequency)
    };
    seen.iter().enumerate().map(row).collect()
}

fn edit(mut state: State, byte: u8, context: &Context) -> (State, Action) {
    let secret = matches!(state.prompt, Prompt::Passphrase(..));
    match byte {
        0x03 | 0x04 => (State::default(), Action::Say("\nLeft; nothing was changed.\n".into())),
        b'\r' | b'\n' => {
            let typed = std::mem::take(&mut state.typed);
            let after_return = state.after_return;
            let (mut state, action) = enter(state, &typed, context);
            state.after_return = after_return;
            (state, action)
        }
        0x15 => {
            state.typed.clear();
            let again = format!("\n{}", question(&state));
            (state, Action::Say(again))
        }
        0x08 | 0x7f => {
            let last = String::from_utf8_lossy(&state.typed).chars().next_back();
            let Some(last) = last else { return (state, Action::None) };
            let left = state.typed.len().saturating_sub(last.len_utf8());
            state.typed.truncate(left);
            let columns = unicode_width::UnicodeWidthChar::width(last).unwrap_or(0);
            let erase = if secret { String::new() } else { "\u{8} \u{8}".repeat(columns) };
            (state, Action::Say(erase))
        }
        b'\t' => (state, Action::None),
        // A person does not type this; a line that floats does, and sooner or later a whole answer with it.
        0x00..0x20 => noise(),
        _ => {
            let whole = state.typed.len() - tail(&state.typed);
            state.typed.push(byte);
            match std::str::from_utf8(&state.typed[whole..]) {
                Ok(text) if state.typed.len() <= MAX_TYPED => {
                    let echo = if secret || text.chars().any(char::is_control) { "" } else { text };
                    let echo = echo.to_owned();
                    (state, Action::Say(echo))
                }
                // The rest of the character is on its way.
                Err(error) if error.error_len().is_none() && state.typed.len() <= MAX_TYPED => (state, Action::None),
                _ => noise(),
            }
        }
    }
}

fn noise() -> (State, Action) {
    (State::default(), Action::Say("\nThat was noise on the line, or too long; nothing was changed.\n".into()))
}

/// Bytes at the end that are the beginning of a character.
fn tail(typed: &[u8]) -> usize {
    match std::str::from_utf8(typed) {
        Ok(_) => 0,
        Err(error) => typed.len() - error.valid_up_to(),
    }
}

fn enter(mut state: State, typed: &[u8], context: &Context) -> (State, Action) {
    let Ok(text) = String::from_utf8(typed.to_vec()) else { return noise() };
    let leave = |text: &str| (State::default(), Action::Say(format!("\n{text}\n")));
    match std::mem::take(&mut state.prompt) {
        Prompt::None => (State::default(), Action::None),
        Prompt::Shell if text.trim() == "yes" => (State::default(), Action::Shell),
        Prompt::Shell => leave("No shell, then."),
        Prompt::Name if text.is_empty() => leave("Left; nothing was changed."),
        Prompt::Name => match choose(&text, &context.seen) {
            Ok(chosen) => {
                state.prompt =
                    if context.has_country { Prompt::Passphrase(chosen, None) } else { Prompt::Country(chosen) };
                ask_or_join(state)
            }
            Err(why) => {
                state.prompt = Prompt::Name;
                again(state, &why)
            }
        },
        Prompt::Country(chosen) => {
            let given = Some(text.trim()).filter(|text| !text.is_empty());
            match given.map(country::code).transpose() {
                Ok(country) => {
                    state.prompt = Prompt::Passphrase(chosen, country);
                    ask_or_join(state)
                }
                Err(why) => {
                    state.prompt = Prompt::Country(chosen);
                    again(state, &format!("That can't be: {why}."))
                }
            }
        }
        Prompt::Passphrase(_, _) if text.is_empty() => leave("Left; nothing was changed."),
        Prompt::Passphrase(chosen, country) => {
            let key = if chosen.hidden && text == "open" { Ok(Key::Open) } else { Key::of(Some(text), None, false) };
            match key {
                Ok(key) => join(chosen, key, country),
                Err(why) => {
                    state.prompt = Prompt::Passphrase(chosen, country);
                    again(state, why)
                }
            }
        }
    }
}

fn again(state: State, why: &str) -> (State, Action) {
    let text = format!("\n{why}.\n{}", question(&state));
    (state, Action::Say(text))
}

/// An open network that was seen needs no passphrase.
fn ask_or_join(state: State) -> (State, Action) {
    match &state.prompt {
        Prompt::Passphrase(chosen, country) if chosen.open => join(chosen.clone(), Key::Open, country.clone()),
        _ => {
            let text = format!("\n{}", question(&state));
            (state, Action::Say(text))
        }
    }
}

fn join(chosen: Chosen, key: Key, country: Option<String>) -> (State, Action) {
    // The newest wish is the strongest.
    let network = Network { ssid: chosen.ssid, key, hidden: chosen.hidden, priority: i32::MAX };
    (State::default(), Action::Join { network, country })
}

/// A number is that of the list; whoever means a network called `3` writes `\x33`.
fn choose(text: &str, seen: &[Bss]) -> Result<Chosen, String> {
    let number = text.trim().parse::<usize>().ok().filter(|number| (1..=seen.len()).contains(number));
    let listed = number.and_then(|number| seen.get(number - 1));
    let ssid = match listed {
        Some(bss) => bss.ssid.clone().ok_or("That one hides its name; type the name")?,
        None => Ssid::parse(text).map_err(|error| {
            let text = error.to_string();
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
        })?,
    };
    let bss = listed.or_else(|| seen.iter().find(|bss| bss.ssid.as_ref() == Some(&ssid)));
    if let Some(bss) = bss
        && !bss.key_mgmt.is_empty()
        && !bss.key_mgmt.iter().any(|name| name.contains("psk") || name.contains("sae"))
    {
        return Err(format!("“{ssid}” wants {}, and only passphrases can be typed here", bss.key_mgmt.join(" ")));
    }
    Ok(Chosen { open: bss.is_some_and(|bss| bss.key_mgmt.is_empty()), hidden: bss.is_none(), ssid })
}

/// What is in the air as it is listed: one for each name, the strongest, at most `most`.
pub fn listed(air: &[Bss], most: usize) -> Vec<Bss> {
    let mut sorted = air.to_vec();
    sorted.sort_by_key(|bss| std::cmp::Reverse(bss.signal));
    let mut listed: Vec<Bss> = Vec::new();
    for bss in sorted {
        if listed.len() < most && !listed.iter().any(|other| other.ssid == bss.ssid) {
            listed.push(bss);
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bss(ssid: &str, key_mgmt: &[&str]) -> Bss {
        Bss {
            ssid: Ssid::parse(ssid).ok(),
            bssid: "02:00:00:00:00:01".into(),
            frequency: 2412,
            signal: -50,
            key_mgmt: key_mgmt.iter().map(|k| (*k).to_owned()).collect(),
            h2e_only: false,
            pmf_required: false,
            siblings: vec![],
        }
    }

    fn context() -> Context {
        let seen = vec![bss("home", &["wpa-psk"]), bss("café", &[]), bss("work", &["wpa-eap"]), bss("", &["sae"])];
        Context { seen, has_country: true, shell: true }
    }

    fn run(text: &[u8], context: &Context) -> (State, Vec<Action>) {
        let mut state = State::default();
        let mut actions = Vec::new();
        for &byte in text {
            let (next, action) = step(state, byte, context);
            state = next;
            actions.extend(Some(action).filter(|action| *action != Action::None));
        }
        (state, actions)
    }

    fn joined(text: &[u8], context: &Context) -> Option<(Network, Option<String>)> {
        match run(text, context) {
            (state, actions) if !state.is_prompt() => actions.into_iter().find_map(|action| match action {
                Action::Join { network, country } => Some((network, country)),
                _ => None,
            }),
            _ => None,
        }
    }

    fn said(actions: &[Action]) -> String {
        actions.iter().map(|action| if let Action::Say(text) = action { text.as_str() } else { "" }).collect()
    }

    #[test]
    fn every_byte_alone_is_harmless() {
        for byte in 0..=255u8 {
            for context in [context(), Context::default()] {
                let (_, action) = step(State::default(), byte, &context);
                assert!(!matches!(action, Action::Shell | Action::Join { .. }), "{byte:#x}");
                let known = b"swrld?nx".contains(&byte);
                assert_eq!(action != Action::None, known, "{byte:#x}");
            }
        }
    }

    #[test]
    fn noise_never_opens_a_shell_nor_joins() {
        // xorshift: the same noise in every run.
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        let (mut state, context) = (State::default(), context());
        for _ in 0..1_000_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let byte = u8::try_from(seed & 0xff).unwrap();
            let (next, action) = step(state, byte, &context);
            assert_ne!(action, Action::Shell);
            assert!(next.typed.len() <= MAX_TYPED);
            if let Action::Join { network, .. } = action {
                // Only by a number of the list, and that one is open.
                assert_eq!(network.key, Key::Open);
            }
            state = next;
        }
        let (state, action) = expire(State { prompt: Prompt::Name, ..State::default() });
        assert!(!state.is_prompt() && matches!(action, Action::Say(_)));
    }

    #[test]
    fn a_network_is_typed_by_number_or_name() {
        let (network, country) = joined(b"n1\rcorrect horse\r", &context()).unwrap();
        assert_eq!((network.ssid.to_string().as_str(), network.hidden, country), ("home", false, None));
        assert_eq!(network.key, Key::Passphrase("correct horse".into()));
        let (network, _) = joined("ncafé\r\n".as_bytes(), &context()).unwrap();
        assert_eq!((network.key, network.hidden), (Key::Open, false));
        let (network, _) = joined("nKäfer 🦢\r\nhunter2hunter2\r\n".as_bytes(), &context()).unwrap();
        assert!(network.hidden && network.ssid.to_string() == "Käfer 🦢");
        let (network, _) = joined(b"n\\x31\nhunter2hunter2\n", &context()).unwrap();
        assert_eq!(network.ssid.octets(), b"1");
        let (network, _) = joined(b"nlab\nopen\n", &context()).unwrap();
        assert_eq!(network.key, Key::Open);
        let (network, _) =
            joined(&[b"n1\n".as_slice(), "ab".repeat(32).as_bytes(), b"\n"].concat(), &context()).unwrap();
        assert!(matches!(network.key, Key::Pmk(_)));
    }

    #[test]
    fn the_country_is_asked_for_where_it_is_not_known() {
        let context = Context { has_country: false, ..context() };
        let (_, country) = joined(b"n1\rGermany\rde\rcorrect horse\r", &context).unwrap();
        assert_eq!(country.as_deref(), Some("DE"));
        let (_, country) = joined(b"n1\r\rcorrect horse\r", &context).unwrap();
        assert_eq!(country, None);
    }

    #[test]
    fn lines_can_be_edited_and_left() {
        let (network, _) =
            joined("nxx\u{15}homé\u{7f}e\x08e\rwrong\u{15}correct horsee\u{7f}\r".as_bytes(), &context()).unwrap();
        assert_eq!(network.ssid.to_string(), "home");
        assert_eq!(network.key, Key::Passphrase("correct horse".into()));
        for left in [
            &b"n\x03"[..],
            b"nho\xff",
            b"nho\xc3\r",
            b"n1\rcorrect\x01",
            &[&b"n"[..], &[b'y'; 300]].concat(),
            b"n\r",
            b"n1\r\r",
            b"nhome\x04",
            b"n1\rsecret\x03",
            b"xno\r",
            b"x\r",
        ] {
            let (state, actions) = run(left, &context());
            assert!(!state.is_prompt(), "{left:?}");
            assert!(actions.iter().all(|action| matches!(action, Action::Say(_))), "{actions:?}");
        }
        // Cursor keys, and a terminal that answers, type nothing.
        let (network, _) = joined(b"n\x1b[A\x1b[1;5Dho\x1bOPme\x1b[?1;2c\rcorrect horse\r", &context()).unwrap();
        assert_eq!(network.ssid.to_string(), "home");
        assert_eq!(run(b"\x1b[24;80R\x1b[?1;2c\x1bOs", &context()).1, []);
        assert!(!run(b"n\x1b\x03", &context()).0.is_prompt());
    }

    #[test]
    fn a_passphrase_is_never_shown() {
        let (state, actions) = run(b"n1\rcorrect horse\x7f", &context());
        assert!(!said(&actions).contains("horse") && !said(&actions).contains("correct"), "{actions:?}");
        assert_eq!(format!("{state:?}"), "Passphrase");
        let (_, actions) = run(b"n1\rshort\rn", &context());
        assert!(said(&actions).contains("8 to 63") && !said(&actions).contains("short"), "{actions:?}");
    }

    #[test]
    fn what_cannot_be_joined_is_explained() {
        for (typed, says) in [
            (&b"n3\r"[..], "only passphrases"),
            (b"n4\r", "type the name"),
            (b"nthis name is much too long for a network\r", "1 to 32"),
            (b"n\\q\r", "backslash"),
        ] {
            let (state, actions) = run(typed, &context());
            assert!(state.is_prompt() && said(&actions).contains(says), "{actions:?}");
        }
        let (_, actions) = run(b"x", &Context { shell: false, ..context() });
        assert!(said(&actions).contains("do not allow"));
        assert!(matches!(run(b"xyes\r", &context()).1.last(), Some(Action::Shell)));
    }

    #[test]
    fn the_list_has_each_name_once() {
        let near = Bss { signal: -30, ..bss("home", &["sae"]) };
        let listed = listed(&[bss("home", &[]), near.clone(), bss("b", &[])], 9);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0], near);
        assert!(list(&listed).contains("“home”") && list(&[]).contains("w looks"));
    }
}
