//! Which process of a system has opened a connection: a part of the network may be broken for some and not for others.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Every TCP socket over IPv4 of this machine: addresses as hexadecimal numbers, the inode in the tenth column.
const SOCKETS: &str = "/proc/net/tcp";
const INODE: usize = 9;

/// The name of the component that has connected from `address`, if its configuration file is in `dir`.
pub fn dialler(address: SocketAddr, dir: &Path) -> Option<String> {
    let socket = format!("socket:[{}]", inode(address)?);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.map(|entry| entry.path()).find_map(|process| {
        let name = component(&process, dir)?;
        let files = fs::read_dir(process.join("fd")).ok()?.flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.into_iter().any(|link| link.as_os_str() == socket.as_str()).then_some(name)
    })
}

fn inode(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let sockets = fs::read_to_string(SOCKETS).ok()?;
    let of = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // Of connections that are over there may be some with the same address: nobody's, without an inode.
        let inode = columns.get(INODE).filter(|inode| **inode != "0")?;
        (*columns.get(1)? == local).then(|| (*inode).to_string())
    };
    sockets.lines().find_map(of)
}

/// What a process is called, by the configuration file that it was started with.
fn component(process: &Path, dir: &Path) -> Option<String> {
    let arguments = fs::read(process.join("cmdline")).ok()?;
    let mut arguments =
        arguments.split(|byte| *byte == 0).filter_map(|argument| str::from_utf8(argument).ok());
    let file = arguments.find_map(|argument| {
        let file = Path::new(argument);
        (file.parent() == Some(dir) && file.extension()? == "toml").then_some(file)
    })?;
    Some(file.file_stem()?.to_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::ports::local;

    #[test]
    fn the_inode_of_a_connection_is_that_of_its_socket() {
        let listener = TcpListener::bind(local(0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = inode(stream.local_addr().unwrap()).unwrap();
        let own: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().flatten().collect();
        let links = own.iter().filter_map(|file| fs::read_link(file.path()).ok());
        assert!(links.into_iter().any(|link| link.as_os_str() == format!("socket:[{inode}]").as_str()));
        // This process was started with no configuration file: it is no component.
        assert_eq!(dialler(stream.local_addr().unwrap(), Path::new("/nowhere")), None);
    }
}
