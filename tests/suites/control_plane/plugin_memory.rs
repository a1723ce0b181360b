//! What `kubectl mapa status` takes of memory, measured on an API server that is pretended: only the plugin is to be seen.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    plugin::{command, kubeconfig_of, published},
    world::{Test, World},
};

pub const TESTS: &[Test] = &[("plugin_status_of_10000_policies_takes_less_than_50_mb", ten_thousand)];

/// Pages of policies as large as they get in a year, served as fast as can be, and by an API server that has no rows: what is measured is the
/// plugin at its worst.
fn ten_thousand(world: &World) {
    const POLICIES: usize = 10_000;
    let tenant = world.tenant("plugin-many");
    published(&tenant);
    let policy: Value =
        serde_json::from_str(&tenant.run(&["get", "mapa-refresh", "roraima", "-o", "json", "--show-managed-fields"]))
            .unwrap();
    let bytes = policy.to_string().len();
    let policies: Vec<String> = (0..POLICIES)
        .map(|number| {
            let mut policy = policy.clone();
            policy["metadata"]["name"] = format!("utility-{number:05}").into();
            policy.to_string()
        })
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = world.plane().folder().join("many.kubeconfig");
    let server = format!("http://{}", listener.local_addr().unwrap());
    std::fs::write(&kubeconfig, kubeconfig_of(&server)).unwrap();
    // It ends with this process, as the sockets that it waits for do.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            serve(connection.unwrap(), &policies);
        }
    });
    let mut child = command(&kubeconfig, &["status", "-A"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // More does not fit into the pipe: the plugin waits with everything that it has in memory.
    let mut table = vec![0; 1];
    stdout.read_exact(&mut table).unwrap();
    let peak = peak_kilobytes(child.id());
    stdout.read_to_end(&mut table).unwrap();
    let code = child.wait().unwrap().code();
    println!("{POLICIES} policies of {bytes} bytes: {peak} kB");
    assert_eq!(String::from_utf8(table).unwrap().lines().count(), POLICIES + 1);
    assert_eq!(code, Some(0), "each is a copy of one that is compliant");
    assert!(peak < 50 * 1024, "{peak} kB");
}

/// Answers the requests of one connection with the page that each asks for; where the next begins is what it is continued by.
fn serve(mut connection: TcpStream, policies: &[String]) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let asked = |parameter: &str| {
            let (_, rest) = head.split_once(parameter)?;
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
        };
        let first: usize = asked("continue=").unwrap_or(0);
        let next = (first + asked("limit=").unwrap_or(policies.len())).min(policies.len());
        let continued = if next < policies.len() {
            next.to_string()
        } else {
            String::new()
        };
        let body = format!(
            r#"{{"kind":"MapaRefreshPolicyList","apiVersion":"mapa.radar.dev/v1","metadata":{{"continue":"{continued}"}},"items":[{}]}}"#,
            policies[first..next].join(",")
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if connection
            .write_all(answer.as_bytes())
            .and_then(|()| connection.write_all(body.as_bytes()))
            .is_err()
        {
            return;
        }
    }
}

fn peak_kilobytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
