//! The control channel: any bytes as lines, each as every message there is; the layout in a request for a plan is compiled.
//! What is understood can be said again.
#![no_main]

use cygnet_protocol::disko;
use cygnet_protocol::event::Event;
use cygnet_protocol::frame::{self, FrameError, MAX_LINE};
use cygnet_protocol::message::{Hello, Reply, Request};
use cygnet_protocol::plan::{Options, compile};
use cygnet_protocol::stream::{DataHello, DataReply, Record};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::messages()), |bytes: &[u8]| {
    let mut reader = bytes;
    loop {
        let line = match frame::read_line(&mut reader) {
            Ok(line) => line,
            Err(FrameError::Closed | FrameError::Truncated) => break,
            Err(error) => panic!("a slice fails: {error}"),
        };
        assert!(line.len() < MAX_LINE);
        if let Ok(request) = Request::parse(&line) {
            again(&request);
            if let Request::Plan { disko, .. } = &request {
                layout(disko);
            }
        }
        each(&line);
    }
});

fn each(line: &[u8]) {
    let _ = frame::decode::<Hello>(line).map(|hello| {
        let _ = hello.agree(&Hello::ours("fuzz")).map_err(|fault| fault.to_string());
        again(&hello);
    });
    let _ = frame::decode::<Reply>(line).map(|reply| again(&reply));
    let _ = frame::decode::<Event>(line).map(|event| again(&event));
    let _ = frame::decode::<DataHello>(line).map(|hello| again(&hello));
    let _ = frame::decode::<DataReply>(line).map(|reply| again(&reply));
    let _ = frame::decode::<Record>(line).map(|record| {
        if let Record::Nar(info) | Record::Rest { info, .. } = &record {
            assert!(info.registration().starts_with("/nix/store/"));
        }
        again(&record);
    });
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) {
    let mut line = Vec::new();
    frame::send(&mut line, message).expect("what was understood can be said");
    frame::receive::<T>(&mut &line[..]).expect("what was said can be understood");
}

fn layout(layout: &Value) {
    if let Ok(devices) = disko::parse(layout.to_string()) {
        let options = Options { require_root: false, ..Options::default() };
        let _ = compile(&devices, &[], &options).map(|plan| assert!(plan.is_intact()));
    }
}
