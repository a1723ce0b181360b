//! Debian's packages that the node shape, the databases and the images need.

use std::{path::Path, process::Command};

use crate::{Error, Result, process, progress};

/// A program and the package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Where Debian puts it.
    pub path: &'static str,
    /// The package.
    pub package: &'static str,
}

/// What PostgreSQL needs.
pub const POSTGRES: &[Program] = &[Program {
    path: "/usr/lib/postgresql/15/bin/postgres",
    package: "postgresql-15",
}];
/// What Redis needs.
pub const REDIS: &[Program] = &[Program {
    path: "/usr/bin/redis-server",
    package: "redis-server",
}];
/// What a pooler before PostgreSQL needs.
pub const PGBOUNCER: &[Program] = &[Program {
    path: "/usr/sbin/pgbouncer",
    package: "pgbouncer",
}];
/// What a node needs.
pub const NODE: &[Program] = &[
    Program {
        path: "/usr/bin/containerd",
        package: "containerd",
    },
    Program {
        path: "/usr/sbin/runc",
        package: "runc",
    },
    Program {
        path: "/usr/lib/cni/bridge",
        package: "containernetworking-plugins",
    },
    Program {
        path: "/usr/sbin/nft",
        package: "nftables",
    },
    Program {
        path: "/usr/sbin/conntrack",
        package: "conntrack",
    },
    Program {
        path: "/usr/sbin/ip",
        package: "iproute2",
    },
];
/// What building images needs.
pub const IMAGES: &[Program] = &[
    Program {
        path: "/usr/bin/buildah",
        package: "buildah",
    },
    Program {
        path: "/usr/sbin/debootstrap",
        package: "debootstrap",
    },
    Program {
        path: "/usr/bin/gcc",
        package: "gcc",
    },
    Program {
        path: "/usr/lib/x86_64-linux-gnu/libc.a",
        package: "libc6-dev",
    },
];

/// What `cargo demo` needs.
#[must_use]
pub fn of_the_demo() -> Vec<Program> {
    [POSTGRES, REDIS, NODE, IMAGES].concat()
}

/// Makes sure that `programs` are there; installs what is missing as root on Debian.
///
/// # Errors
/// Something is missing and cannot be installed; with the one command to run.
pub fn ensure(programs: &[Program]) -> Result<()> {
    // Debian merges /sbin and /usr/sbin; both spellings occur.
    let is_there = |program: &Program| {
        Path::new(program.path).exists() || Path::new(&program.path.replace("/usr/sbin", "/sbin")).exists()
    };
    let missing: Vec<&str> = programs
        .iter()
        .filter(|program| !is_there(program))
        .map(|program| program.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let remedy = format!("run: apt-get update && apt-get install --no-install-recommends {list}");
    if !(process::is_root() && Path::new("/usr/bin/apt-get").exists()) {
        return Err(Error::new(format!("missing packages: {list}"), remedy));
    }
    // Installing PostgreSQL or Redis must not start them.
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        // Broken off in the middle it would leave the machine's packages half installed.
        process::output_to_the_end(&format!("install {list} ({remedy})"), &mut command)
    };
    progress::during(&format!("installing Debian packages {list}"), || {
        apt(&["update"])?;
        apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat())
    })?;
    match programs.iter().find(|program| !is_there(program)) {
        Some(program) => Err(Error::new(
            format!("{} is still missing after installing {}", program.path, program.package),
            remedy,
        )),
        None => Ok(()),
    }
}
