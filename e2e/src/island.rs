//! A network namespace with one cable to the rest of the machine, on which packets can be dropped: what is sent is then neither
//! taken nor refused, nor is a new connection, which no proxy can do.
//!
//! It takes root, `ip` (iproute2), `nsenter` (util-linux) and `iptables`. All that is done outside the namespace is one interface,
//! which goes with it.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use crate::ports::Ports;

/// Where `ip` keeps the names of namespaces.
const NAMESPACES: &str = "/run/netns";

/// The interface inside.
const INSIDE: &str = "kurir";

/// A namespace. Dropping it removes it, and its cable.
#[derive(Debug)]
pub struct Island {
    /// `kurir-<block of ports>-<process>`: of no other scenario on this machine.
    name: String,
    /// The cable's end outside: `kurir-<block of ports>`.
    cable: String,
    near: Ipv4Addr,
    far: Ipv4Addr,
}

/// A connection, by its end that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Something on the island listens at this port.
    Here(u16),
    /// Something on the island connects to this port elsewhere.
    There(u16),
}

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All.
    BothWays,
    /// Those from the island.
    Forth,
    /// Those to it.
    Back,
}

impl Island {
    /// Makes one for a system with these ports, or says why not.
    pub fn make(ports: &Ports) -> Result<Island, String> {
        remove_orphans();
        let block = ports.block();
        // 198.18.0.0/15 is for networks that nobody routes to (RFC 2544).
        let island = Island {
            name: format!("kurir-{block}-{}", std::process::id()),
            cable: format!("kurir-{block}"),
            near: Ipv4Addr::new(198, 18, block, 1),
            far: Ipv4Addr::new(198, 18, block, 2),
        };
        let Island { name, cable, near, far } = &island;
        for command in [
            format!("ip netns add {name}"),
            format!("ip link add {cable} type veth peer name {INSIDE} netns {name}"),
            format!("ip addr add {near}/30 dev {cable}"),
            format!("ip link set {cable} up"),
            format!("ip -n {name} addr add {far}/30 dev {INSIDE}"),
            format!("ip -n {name} link set {INSIDE} up"),
            format!("ip -n {name} link set lo up"),
        ] {
            run(&command)?;
        }
        island.inside("iptables -w -S")?;
        Ok(island)
    }

    /// The rest of the machine, as the island reaches it.
    pub fn near(&self) -> IpAddr {
        self.near.into()
    }

    /// The island, as the rest of the machine reaches it.
    pub fn far(&self) -> IpAddr {
        self.far.into()
    }

    /// A command that runs on the island, in place of this one that runs here.
    pub fn command(&self, program: &str, args: &[String]) -> (&'static str, Vec<String>) {
        let enter = [format!("--net={NAMESPACES}/{}", self.name), "--".into(), program.into()];
        ("nsenter", enter.iter().chain(args).cloned().collect())
    }

    /// From now on these packets are dropped.
    pub fn drops(&self, traffic: &[Traffic], loss: Loss) {
        self.rules("-A", traffic, loss);
    }

    /// They pass again. What both sides have to say they say once their timers let them: up to as long after as it lasted.
    pub fn passes(&self, traffic: &[Traffic], loss: Loss) {
        self.rules("-D", traffic, loss);
    }

    fn rules(&self, change: &str, traffic: &[Traffic], loss: Loss) {
        for rule in traffic.iter().flat_map(|traffic| traffic.rules(loss)) {
            let done = self.inside(&format!("iptables -w {change} {rule} -j DROP"));
            done.unwrap_or_else(|why| panic!("{why}"));
        }
    }

    fn inside(&self, command: &str) -> Result<(), String> {
        run(&format!("nsenter --net={NAMESPACES}/{} -- {command}", self.name))
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // Whatever of it there is.
        let _ = remove(&self.name, &self.cable);
    }
}

impl Traffic {
    fn rules(self, loss: Loss) -> Vec<String> {
        let (from, to) = match self {
            Traffic::Here(port) => (format!("--sport {port}"), format!("--dport {port}")),
            Traffic::There(port) => (format!("--dport {port}"), format!("--sport {port}")),
        };
        let (forth, back) = (format!("OUTPUT -p tcp {from}"), format!("INPUT -p tcp {to}"));
        match loss {
            Loss::BothWays => vec![forth, back],
            Loss::Forth => vec![forth],
            Loss::Back => vec![back],
        }
    }
}

/// Those that a process has left behind that was killed.
fn remove_orphans() {
    let names = std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let made_by = |name: &str| name.strip_prefix("kurir-")?.split_once('-')?.1.parse::<u32>().ok();
        let Some(process) = made_by(&name) else { continue };
        if !std::path::Path::new(&format!("/proc/{process}")).exists()
            && let Some((cable, _)) = name.rsplit_once('-')
        {
            // Somebody else may be at it.
            let _ = remove(&name, cable);
        }
    }
}

/// The cable by itself: a namespace goes some time after its name.
fn remove(name: &str, cable: &str) -> Result<(), String> {
    let cable = run(&format!("ip link del {cable}"));
    run(&format!("ip netns del {name}")).and(cable)
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// Long enough for an answer, on a machine with nothing else to do or with much.
    const A_WHILE: Duration = Duration::from_millis(500);

    #[test]
    fn what_is_dropped_is_neither_taken_nor_refused_and_nothing_is_left_behind() {
        let ports = Ports::find();
        let island = match Island::make(&ports) {
            Ok(island) => island,
            Err(why) => return println!("no island here: {why}"),
        };
        let knocks = |island: &Island| {
            // Nobody listens there: who can be reached refuses.
            let at = SocketAddr::new(island.far(), ports.base());
            TcpStream::connect_timeout(&at, A_WHILE).unwrap_err().kind()
        };
        assert_eq!(knocks(&island), ErrorKind::ConnectionRefused);
        for loss in [Loss::BothWays, Loss::Forth, Loss::Back] {
            island.drops(&[Traffic::Here(ports.base())], loss);
            assert_eq!(knocks(&island), ErrorKind::TimedOut, "{loss:?}");
            island.passes(&[Traffic::Here(ports.base())], loss);
            assert_eq!(knocks(&island), ErrorKind::ConnectionRefused, "{loss:?}");
        }
        // And the other way round: somebody there connects to somebody here.
        let listener = TcpListener::bind(SocketAddr::new(island.near(), ports.base())).unwrap();
        let (port, near) = (ports.base(), island.near());
        let reaches = || island.inside(&format!("timeout 0.5 bash -c :</dev/tcp/{near}/{port}")).is_ok();
        assert!(reaches());
        island.drops(&[Traffic::There(port)], Loss::Forth);
        assert!(!reaches());
        island.passes(&[Traffic::There(port)], Loss::Forth);
        assert!(reaches());
        drop(listener);

        let (name, cable) = (island.name.clone(), island.cable.clone());
        drop(island);
        assert!(!std::path::Path::new(NAMESPACES).join(name).exists());
        assert!(!std::path::Path::new("/sys/class/net").join(cable).exists());
    }
}
