//! Generic netlink: requests with a command and attributes, and what the kernel answers
//! (Documentation/userspace-api/netlink/intro.rst).
//!
//! Blocking, one request at a time: whoever calls it has a thread for it. Headers, attributes and errors are
//! netlink-packet-core's.

use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

/// GENL_ID_CTRL: the family that knows the others (include/uapi/linux/genetlink.h).
const CONTROL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// `struct genlmsghdr`: u8 command, u8 version, u16 reserved.
const HEADER: usize = 4;
/// `struct nlmsghdr`; messages in a datagram begin at multiples of 4.
const NETLINK_HEADER: usize = 16;

/// A message of any family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    family: u16,
    /// Which command it is, or is the answer to.
    pub command: u8,
    attributes: Vec<u8>,
}

impl Message {
    /// A request.
    pub fn new(family: u16, command: u8, attributes: &[DefaultNla]) -> Self {
        let mut octets = vec![0; attributes.iter().map(Emitable::buffer_len).sum()];
        let mut rest = octets.as_mut_slice();
        for attribute in attributes {
            let (own, after) = rest.split_at_mut(attribute.buffer_len());
            attribute.emit(own);
            rest = after;
        }
        Self { family, command, attributes: octets }
    }

    /// An attribute's value.
    pub fn attribute(&self, kind: u16) -> Option<&[u8]> {
        attributes(&self.attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The same as a number of 32 bits.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.attribute(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// The same as text, which has a NUL at its end.
    pub fn text(&self, kind: u16) -> Option<String> {
        let text = std::str::from_utf8(self.attribute(kind)?).ok()?;
        Some(text.trim_end_matches('\0').to_owned())
    }
}

/// The attributes in a message or in one of its attributes; the list ends where it is malformed.
pub fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(octets).map_while(Result::ok).map(|attribute| {
        let kind = attribute.kind();
        let octets: &[u8] = attribute.into_inner();
        let length = usize::from(u16::from_ne_bytes([octets[0], octets[1]]));
        (kind, octets.get(HEADER..length).unwrap_or_default())
    })
}

/// An attribute of 32 bits.
pub fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

/// An attribute of text.
pub fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), b"\0"].concat())
}

/// An attribute whose presence is what it says.
pub fn flag(kind: u16) -> DefaultNla {
    DefaultNla::new(kind, Vec::new())
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // The version has never been anything else for the families that we speak to.
        buffer[..HEADER].copy_from_slice(&[self.command, 1, 0, 0]);
        buffer[HEADER..HEADER + self.attributes.len()].copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match payload {
            [command, _version, _, _, attributes @ ..] => {
                Ok(Self { family: header.message_type, command: *command, attributes: attributes.to_vec() })
            }
            _ => Err(DecodeError::from("a generic netlink message is shorter than its header")),
        }
    }
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// One thing, or that something be done.
    One,
    /// All there is.
    All,
}

/// A socket.
pub struct Generic {
    socket: Socket,
    sequence: u32,
}

impl Generic {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a family; `NotFound` if the kernel has none of that name.
    pub fn family(&mut self, name: &str) -> io::Result<u16> {
        let request = Message::new(CONTROL, CTRL_CMD_GETFAMILY, &[text(CTRL_ATTR_FAMILY_NAME, name)]);
        let answers = self.call(request, Ask::One)?;
        let id = answers.iter().find_map(|message| message.attribute(CTRL_ATTR_FAMILY_ID)?.try_into().ok());
        id.map(u16::from_ne_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Asks, and waits for all of the answer.
    ///
    /// # Errors
    /// The kernel's, by errno.
    pub fn call(&mut self, request: Message, ask: Ask) -> io::Result<Vec<Message>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST
            | match ask {
                Ask::One => NLM_F_ACK,
                Ask::All => NLM_F_DUMP,
            };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.socket.send(&octets, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if datagram.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if take(&datagram, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes in the messages of a datagram; true with the last of the answer to `sequence`.
fn take(datagram: &[u8], sequence: u32, answers: &mut Vec<Message>) -> io::Result<bool> {
    let mut rest = datagram;
    while rest.len() >= NETLINK_HEADER {
        let message = NetlinkMessage::<Message>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // The decoder has seen that it is no longer than the rest; a shorter one than its header would be found for ever.
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(NETLINK_HEADER);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Error(error) => match error.code {
                // An acknowledgement.
                None => return Ok(true),
                Some(code) => return Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
            },
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_written_and_read() {
        let message = Message::new(0x20, 7, &[text(2, "phy0"), flag(174), number(3, 5)]);
        assert_eq!(message.text(2).as_deref(), Some("phy0"));
        assert_eq!(message.attribute(174), Some(&[][..]));
        assert_eq!(message.number(3), Some(5));
        assert_eq!((message.number(2), message.attribute(9)), (None, None));
        // Each begins at a multiple of 4.
        assert_eq!(message.attributes.len(), 12 + 4 + 8);
    }

    #[test]
    fn malformed_answers_are_errors_or_less_and_never_a_panic() {
        let message = Message::new(0x20, 7, &[number(3, 5), text(2, "phy0")]);
        let mut whole = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        whole.header.sequence_number = 1;
        whole.finalize();
        let mut octets = vec![0; whole.buffer_len()];
        whole.serialize(&mut octets);
        let mut answers = Vec::new();
        assert!(!take(&octets, 1, &mut answers).unwrap());
        assert_eq!(answers.len(), 1);
        for length in 0..octets.len() {
            let _ = take(&octets[..length], 1, &mut Vec::new());
        }
        for position in 0..octets.len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bad = octets.clone();
                bad[position] = value;
                let mut answers = Vec::new();
                let _ = take(&bad, 1, &mut answers);
                for answer in &answers {
                    let _ = (answer.number(3), answer.text(2), attributes(&answer.attributes).count());
                }
            }
        }
    }

    #[test]
    fn the_kernel_of_this_machine_answers() {
        let mut generic = Generic::open().unwrap();
        assert_eq!(generic.family("nlctrl").unwrap(), CONTROL);
        assert_eq!(generic.family("nonesuch").unwrap_err().kind(), io::ErrorKind::NotFound);
        // All families: an answer of many messages.
        let all = generic.call(Message::new(CONTROL, CTRL_CMD_GETFAMILY, &[]), Ask::All).unwrap();
        assert!(all.iter().any(|family| family.text(CTRL_ATTR_FAMILY_NAME).as_deref() == Some("nlctrl")), "{all:?}");
    }
}
