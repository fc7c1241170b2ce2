//! Containers for the parts of a system that otherwise are processes beside the scenarios: `e2e/containers/run` asks for them.
//!
//! Which engine there is this crate does not know: a program is given what is to run and becomes it, in a container.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;

use crate::process::Launch;

/// The environment's name for the program, which is called as [`Containers::holding`] says.
const PROGRAM: &str = "KURIR_E2E_CONTAINER";

/// The environment's name for the network of all containers, a /24 such as `10.91.0.0`.
const NETWORK: &str = "KURIR_E2E_NETWORK";

/// How parts come into containers, and which address each has.
#[derive(Clone, Debug)]
pub struct Containers {
    program: PathBuf,
    network: Ipv4Addr,
}

impl Containers {
    /// As the environment asks for them; none where it does not.
    pub fn asked_for() -> Option<Containers> {
        let program = std::env::var_os(PROGRAM)?.into();
        let network = std::env::var(NETWORK).unwrap_or_default();
        let network = network.parse().unwrap_or_else(|error| panic!("{NETWORK}={network}: {error}"));
        Some(Containers { program, network })
    }

    /// Where the container is whose part has the `index`th port of a block, for clients, for gRPC, or of a store.
    pub fn address(&self, index: u16) -> IpAddr {
        let [first, second, third, _] = self.network.octets();
        let host = match index {
            client @ ..20 => client + 100,
            grpc_or_store @ (100..120 | 180..190) => grpc_or_store,
            other => panic!("no container has port {other} of a block"),
        };
        IpAddr::from([first, second, third, u8::try_from(host).expect("less than 190")])
    }

    /// The same part in a container: `PROGRAM NAME ADDRESS USER COMMAND…`, with `-` for no user.
    #[must_use]
    pub fn holding(&self, launch: Launch, at: IpAddr) -> Launch {
        let Launch { name, program, args, user, env, logs } = launch;
        let held = [name.clone(), at.to_string(), user.unwrap_or("-").into(), program.display().to_string()];
        let args = held.into_iter().chain(args).collect();
        Launch { name, program: self.program.clone(), args, user: None, env, logs }
    }

    /// Waits until the container of a part is gone whose process here was killed: the engine kills it a moment later.
    pub(crate) fn outlives(&self, launch: &Launch) {
        if launch.program == self.program {
            let waited = Command::new(&self.program).args(["--gone", &launch.name]).status();
            assert!(
                waited.is_ok_and(|waited| waited.success()),
                "the container of {} is still there",
                launch.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_one_address_for_its_ports_and_nobody_else_has_it() {
        let containers = Containers { program: "engine".into(), network: Ipv4Addr::new(10, 91, 0, 0) };
        assert_eq!(containers.address(0), IpAddr::from([10, 91, 0, 100]), "the tracker");
        assert_eq!(containers.address(12), containers.address(112), "clients and gRPC of a relay");
        assert_eq!(containers.address(180), IpAddr::from([10, 91, 0, 180]), "Redis");
    }

    #[test]
    fn a_command_is_handed_to_the_engine_whole() {
        let containers = Containers { program: "engine".into(), network: Ipv4Addr::new(10, 91, 0, 0) };
        let launch = Launch {
            name: "relay-1".into(),
            program: "kurir".into(),
            args: vec!["relay".into()],
            env: vec![("A".into(), "b".into())],
            user: Some("postgres"),
            logs: "logs".into(),
        };
        let held = containers.holding(launch, containers.address(10));
        assert_eq!(held.program, PathBuf::from("engine"));
        assert_eq!(held.args, ["relay-1", "10.91.0.110", "postgres", "kurir", "relay"]);
        assert_eq!((held.user, held.env), (None, vec![("A".into(), "b".into())]));
    }
}
