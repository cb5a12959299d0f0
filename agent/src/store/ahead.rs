//! Unpacks ahead in a thread of its own, so that decompressing and writing do not wait for each other.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How much is unpacked at once, bytes.
const BLOCK: usize = 256 * 1024;
/// How many blocks may wait.
const WAITING: usize = 6;

/// What a thread reads ahead from some source.
pub struct Ahead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    /// Takes back what was read, so that memory is not got anew from the kernel for each block.
    used: SyncSender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Ahead {
    /// Starts reading `source`. The thread ends with its source, or with the first block after this is dropped.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(mut source: impl Read + Send + 'static) -> io::Result<Self> {
        let (tell, blocks) = sync_channel(WAITING);
        let (used, empty) = sync_channel::<Vec<u8>>(WAITING);
        std::thread::Builder::new().name("unpack".into()).spawn(move || {
            loop {
                let mut block = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK));
                block.clear();
                let result = (&mut source).take(BLOCK as u64).read_to_end(&mut block);
                let ended = block.is_empty();
                // What came before an error is as good as ever.
                if (!ended || result.is_ok()) && tell.send(Ok(block)).is_err() {
                    return;
                }
                match result {
                    Err(error) => {
                        let _ = tell.send(Err(error));
                        return;
                    }
                    Ok(_) if ended => return,
                    Ok(_) => {}
                }
            }
        })?;
        Ok(Self { blocks, used, block: Vec::new(), at: 0, ended: false })
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.ended {
            let next = self.blocks.recv().unwrap_or(Ok(Vec::new()))?;
            let used = std::mem::replace(&mut self.block, next);
            if used.capacity() >= BLOCK {
                // Full or gone: then nobody needs it.
                let _ = self.used.try_send(used);
            }
            self.at = 0;
            self.ended = self.block.is_empty();
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_with_its_error_at_the_end() {
        struct Broken(u32);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 90 {
                    return Err(io::Error::other("broken"));
                }
                let count = buffer.len().min(33_333);
                buffer[..count].fill(self.0 as u8);
                Ok(count)
            }
        }
        let (mut whole, mut ahead) = (Vec::new(), Vec::new());
        assert!(Broken(0).read_to_end(&mut whole).is_err());
        let error = Ahead::start(Broken(0)).unwrap().read_to_end(&mut ahead).unwrap_err();
        assert_eq!(error.to_string(), "broken");
        assert!(ahead.len() > 2_000_000);
        let mut end = Ahead::start(&b"abc"[..]).unwrap();
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), end.read(&mut [0; 4]).unwrap()), ("abc", 0));
    }
}
