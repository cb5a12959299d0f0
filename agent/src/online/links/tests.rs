//! Against the real kernel, in a network namespace made for it.

use super::*;
use std::process::Command;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// This test program again, as root of a network that is all its own.
#[test]
fn the_tables_of_a_network_namespace_are_read() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not tested: only root can make a network namespace");
    }
    // /sys/class/net shows the namespace of whoever mounted it.
    let script = "mount -t sysfs sysfs /sys && exec \"$0\" --ignored --exact --nocapture \
                  online::links::tests::in_a_namespace";
    let me = std::env::current_exe().unwrap();
    let output = Command::new("unshare").args(["--net", "--mount", "sh", "-c", script]).arg(&me).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn until(links: &Links, ticks: &mut mpsc::Receiver<()>, what: &str, is: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let mut seen = links.read().await.unwrap();
    let wait = async {
        while !is(&seen) {
            ticks.recv().await.unwrap();
            seen = links.read().await.unwrap();
            // As the supervisor does: the next neighbours of interest are those of this snapshot.
            links.snapshot().await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what} did not come: {seen:?}");
    seen
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "changes the network: the_tables_of_a_network_namespace_are_read runs it in a namespace"]
async fn in_a_namespace() {
    let (links, mut ticks) = Links::open().unwrap();
    let seen = links.snapshot().await;
    assert!(seen.interfaces.iter().all(|interface| !interface.carrier), "{seen:?}");
    assert_eq!((seen.addresses.len(), seen.gateway), (0, None));

    ip("link add name near type veth peer name far");
    ip("link set far up");
    let seen = until(&links, &mut ticks, "the link", |seen| seen.interface("near").is_some()).await;
    let near = seen.interface("near").unwrap().clone();
    assert!(!near.up && !near.carrier && !near.physical && !near.wireless && near.mac.len() == 17, "{near:?}");
    links.set_up(near.index).await.unwrap();
    let seen =
        until(&links, &mut ticks, "carrier", |seen| seen.interface("near").is_some_and(|near| near.carrier)).await;
    assert!(seen.interface("lo").is_none());
    let error = links.set_up(4_000_000).await.unwrap_err().to_string();
    assert_eq!(error, "rtnetlink: No such device (os error 19)");

    // Duplicate address detection takes a second, in which the address is none.
    ip("addr add 2001:db8::2/64 dev near");
    assert!(!links.read().await.unwrap().addresses.iter().any(|address| address.ip.to_string() == "2001:db8::2"));
    let ours = |seen: &Snapshot, ip: &str| {
        seen.addresses.iter().any(|address| address.interface == "near" && address.ip.to_string() == ip)
    };
    until(&links, &mut ticks, "the address", |seen| ours(seen, "2001:db8::2")).await;
    ip("addr change 2001:db8::2/64 dev near preferred_lft 0");
    until(&links, &mut ticks, "its deprecation", |seen| !ours(seen, "2001:db8::2")).await;
    ip("addr add 192.0.2.2/24 dev near");
    until(&links, &mut ticks, "the address", |seen| ours(seen, "192.0.2.2")).await;

    // Nobody is at .7; the entry of .1 is ours to decide.
    ip("route add default via 192.0.2.7 dev near metric 600");
    ip("-6 route add default via fe80::7 dev near metric 700");
    ip("route add default via 192.0.2.9 dev near metric 100 table 77");
    let gateway = |seen: &Snapshot| seen.gateway.map(|gateway| gateway.ip.to_string());
    let seen = until(&links, &mut ticks, "the ways", |seen| seen.ways.len() == 2).await;
    assert_eq!(gateway(&seen).as_deref(), Some("192.0.2.7"));
    assert_eq!((seen.gateway.unwrap().answers, seen.ways[1].metric), (None, 700));
    links.snapshot().await;
    poke("192.0.2.7".parse().unwrap());
    poke("fe80::7".parse().unwrap());
    let failed = |seen: &Snapshot| seen.ways.iter().all(|way| way.gateway.answers == Some(false));
    until(&links, &mut ticks, "the failure of both", failed).await;

    ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev near nud reachable");
    ip("route add default via 192.0.2.1 dev near metric 50");
    let seen = until(&links, &mut ticks, "the better way", |seen| seen.ways.len() == 3).await;
    assert_eq!(gateway(&seen).as_deref(), Some("192.0.2.1"));
    assert_eq!(seen.gateway.unwrap().answers, Some(true));
    assert_eq!(seen.ways[0].metric, 50);
    ip("link del near");
    let seen = until(&links, &mut ticks, "the end", |seen| seen.interface("near").is_none()).await;
    assert!(seen.addresses.is_empty() && seen.ways.is_empty());
}
