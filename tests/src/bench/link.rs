//! The link between client and sshd: a TCP proxy on loopback that is held to a rate and a round trip, and counts.
//!
//! Kernels in virtual machines often lack netem, and loopback has no rate of its own; in user space it is a few lines
//! and works anywhere. What is modelled is a pipe with a queue before it, as at a router: every byte leaves no sooner
//! than the rate allows after the byte before it, and arrives half a round trip later. All connections share the rate, each
//! direction has its own. What is not modelled is TCP's slow start and the headers of its packets (some 4 % with Ethernet):
//! both are the same for everyone.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::sockopt;

/// What the queue before the link holds, as time at the link's rate: a router's, and enough for a thread of ours that gets
/// its turn late on a busy machine to lose nothing.
const QUEUE: Duration = Duration::from_millis(30);
/// Bytes in one piece, at most.
const PIECE: usize = 128 * 1024;
/// Bytes in one piece, at least; and in the queue, twice that.
const SMALL_PIECE: usize = 4 * 1024;
/// A piece takes this long on the link.
const PIECE_TIME: Duration = Duration::from_millis(2);
/// Receive buffers of our sockets, bytes. Left alone, Linux lets them grow to megabytes, and whoever sends would take seconds
/// to notice that the link is slow; on a real link it is the congestion window that tells.
const SOCKET_BUFFER: usize = 256 * 1024;

/// What a link is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bits in a second, each way.
    pub bits_per_second: u64,
    /// From here to there and back.
    pub round_trip: Duration,
}

impl Shape {
    /// How long the link is busy with so many bytes.
    pub fn time_for(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.bits_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn bytes_in(&self, time: Duration) -> usize {
        let bytes = u128::from(self.bits_per_second) * time.as_nanos() / 8 / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// A link that is up; dropping it takes it down.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    wire: Arc<Wire>,
}

/// What all connections share.
#[derive(Debug)]
struct Wire {
    shape: Shape,
    up: Way,
    down: Way,
    closed: AtomicBool,
}

/// One direction.
#[derive(Debug)]
struct Way {
    free_at: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Way {
    fn new() -> Way {
        Way { free_at: Mutex::new(Instant::now()), bytes: AtomicU64::new(0) }
    }

    /// Puts so many bytes on the link, behind what is on it; says when the last of them is off it.
    fn reserve(&self, shape: Shape, bytes: usize) -> Instant {
        let mut free_at = held(&self.free_at);
        *free_at = (*free_at).max(Instant::now()) + shape.time_for(bytes as u64);
        *free_at
    }
}

impl Link {
    /// Listens on a port of its own and leads every connection to `to`.
    ///
    /// # Errors
    /// If there is no port.
    pub fn open(to: SocketAddr, shape: Shape) -> Result<Link> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("opening the link's port")?;
        // Connections inherit it.
        sockopt::set_socket_recv_buffer_size(&listener, SOCKET_BUFFER).context("limiting the link's buffers")?;
        let address = listener.local_addr().context("reading the link's port")?;
        let wire = Arc::new(Wire { shape, up: Way::new(), down: Way::new(), closed: AtomicBool::new(false) });
        let shared = wire.clone();
        spawn("link", move || {
            for near in listener.incoming() {
                if shared.closed.load(Ordering::Acquire) {
                    break;
                }
                // A connection that fails is one that its ends hear of.
                let _ = near.map_err(anyhow::Error::from).and_then(|near| connect(near, to, &shared));
            }
        })?;
        Ok(Link { address, wire })
    }

    /// Where the near end is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes delivered so far: from the client to the server, and back.
    pub fn bytes(&self) -> (u64, u64) {
        (self.wire.up.bytes.load(Ordering::Relaxed), self.wire.down.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wire.closed.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(near: TcpStream, to: SocketAddr, wire: &Arc<Wire>) -> Result<()> {
    let far = TcpStream::connect(to).context("reaching the far end")?;
    sockopt::set_socket_recv_buffer_size(&far, SOCKET_BUFFER).context("limiting the link's buffers")?;
    for socket in [&near, &far] {
        socket.set_nodelay(true).context("turning Nagle's algorithm off")?;
    }
    let pair = |a: &TcpStream, b: &TcpStream| anyhow::Ok((a.try_clone()?, b.try_clone()?));
    carry(pair(&near, &far)?, wire, |wire| &wire.up)?;
    carry(pair(&far, &near)?, wire, |wire| &wire.down)
}

/// Two threads for one direction of one connection: one puts on the link, one takes off it.
fn carry((from, to): (TcpStream, TcpStream), wire: &Arc<Wire>, way: fn(&Wire) -> &Way) -> Result<()> {
    let line = Arc::new(Line::default());
    let (shared, wire_in) = (line.clone(), wire.clone());
    spawn("link-in", move || put(from, &shared, &wire_in, way(&wire_in)))?;
    let wire = wire.clone();
    spawn("link-out", move || take(to, &line, way(&wire)))
}

/// What is on its way.
#[derive(Debug, Default)]
struct Line {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Buffers that have been emptied: fresh memory costs the kernel more than the copy.
    spare: Vec<Vec<u8>>,
    /// The end that takes is gone.
    broken: bool,
}

fn put(mut from: TcpStream, line: &Line, wire: &Wire, way: &Way) {
    let shape = wire.shape;
    let delay = shape.round_trip / 2;
    let piece = shape.bytes_in(PIECE_TIME).clamp(SMALL_PIECE, PIECE);
    let limit = shape.bytes_in(QUEUE + delay).max(2 * SMALL_PIECE);
    loop {
        let mut buffer = held(&line.queue).spare.pop().unwrap_or_default();
        buffer.resize(piece, 0);
        let count = from.read(&mut buffer).unwrap_or(0);
        buffer.truncate(count);
        let due = way.reserve(shape, count) + delay;
        let mut queue = held(&line.queue);
        queue.bytes += count;
        queue.pieces.push_back((due, buffer));
        line.changed.notify_all();
        while queue.bytes >= limit && !queue.broken {
            queue = line.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        // An empty piece is the end.
        if queue.broken || count == 0 {
            return;
        }
    }
}

fn take(mut to: TcpStream, line: &Line, way: &Way) {
    loop {
        let (due, piece) = {
            let mut queue = held(&line.queue);
            loop {
                match queue.pieces.pop_front() {
                    Some(next) => break next,
                    None => queue = line.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let delivered = !piece.is_empty() && to.write_all(&piece).is_ok();
        let mut queue = held(&line.queue);
        let (count, last) = (piece.len(), piece.is_empty());
        queue.bytes -= count;
        queue.spare.push(piece);
        queue.broken = !delivered;
        line.changed.notify_all();
        drop(queue);
        if !delivered {
            // What comes from there is still to be heard after an end; after an error there is nobody.
            let _ = to.shutdown(if last { Shutdown::Write } else { Shutdown::Both });
            return;
        }
        way.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).context("starting a thread of the link").map(drop)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Shape = Shape { bits_per_second: 40_000_000, round_trip: Duration::from_millis(10) };
    const FAST: Shape = Shape { bits_per_second: 1_000_000_000, round_trip: Duration::from_micros(300) };

    /// Sends `bytes` through a link, and returns how long it took until all had arrived.
    fn send(shape: Shape, bytes: usize) -> Duration {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::open(server.local_addr().unwrap(), shape).unwrap();
        let reader = std::thread::spawn(move || {
            let (mut far, _) = server.accept().unwrap();
            let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
            while let count @ 1.. = far.read(&mut buffer).unwrap() {
                bytes += count as u64;
            }
            bytes
        });
        let begin = Instant::now();
        let mut near = TcpStream::connect(link.address()).unwrap();
        let piece = vec![7; 500_000];
        for _ in 0..bytes / piece.len() {
            near.write_all(&piece).unwrap();
        }
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.join().unwrap(), bytes as u64);
        let took = begin.elapsed();
        assert_eq!(link.bytes(), (bytes as u64, 0));
        took
    }

    /// Does `work`, and says whether this machine had time for it: a thread that wants to run every millisecond could.
    fn undisturbed<T>(work: impl FnOnce() -> T) -> (T, bool) {
        const EVERY: Duration = Duration::from_millis(1);
        const LATE: Duration = Duration::from_millis(4);
        let done = Arc::new(AtomicBool::new(false));
        let told = done.clone();
        let watch = std::thread::spawn(move || {
            let mut quiet = true;
            while !told.load(Ordering::Acquire) {
                let begin = Instant::now();
                std::thread::sleep(EVERY);
                quiet &= begin.elapsed() < EVERY + LATE;
            }
            quiet
        });
        let result = work();
        done.store(true, Ordering::Release);
        (result, watch.join().unwrap())
    }

    /// A link can't be faster than it should. How much slower it is counts only while nobody else needs the machine.
    fn holds_its_rate(shape: Shape, bytes: usize) {
        let expected = shape.time_for(bytes as u64).as_secs_f64();
        let mut counted = Vec::new();
        for _ in 0..3 {
            let (took, quiet) = undisturbed(|| send(shape, bytes));
            let ratio = took.as_secs_f64() / expected;
            assert!(ratio > 0.995, "faster than the link: {ratio}");
            if ratio < 1.02 {
                return;
            }
            if quiet {
                counted.push(ratio);
            }
        }
        assert!(counted.is_empty(), "not within 2 % of the rate: {counted:?}");
        eprintln!("this machine is too busy to tell whether a link holds its rate");
    }

    #[test]
    fn forty_megabits_are_held() {
        holds_its_rate(SLOW, 8_000_000);
    }

    #[test]
    fn a_gigabit_is_held_and_reached() {
        holds_its_rate(FAST, 150_000_000);
    }

    #[test]
    fn an_answer_takes_a_round_trip() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::open(server.local_addr().unwrap(), SLOW).unwrap();
        let echo = std::thread::spawn(move || {
            let (mut far, _) = server.accept().unwrap();
            let mut byte = [0];
            while far.read(&mut byte).unwrap() == 1 {
                far.write_all(&byte).unwrap();
            }
        });
        let mut near = TcpStream::connect(link.address()).unwrap();
        let (each, quiet) = undisturbed(|| {
            let begin = Instant::now();
            for _ in 0..20 {
                let mut byte = [1];
                near.write_all(&byte).unwrap();
                near.read_exact(&mut byte).unwrap();
            }
            begin.elapsed() / 20
        });
        assert!(each >= SLOW.round_trip, "{each:?}");
        assert!(each < SLOW.round_trip * 3 / 2 || !quiet, "{each:?}");
        assert_eq!(link.bytes(), (20, 20));
        near.shutdown(Shutdown::Write).unwrap();
        echo.join().unwrap();
    }

    #[test]
    fn whoever_goes_away_is_noticed() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::open(server.local_addr().unwrap(), FAST).unwrap();
        let mut near = TcpStream::connect(link.address()).unwrap();
        drop(server.accept().unwrap());
        assert_eq!(near.read(&mut [0]).unwrap_or(0), 0);
        while near.write_all(&[0; 4096]).is_ok() {}
    }
}
