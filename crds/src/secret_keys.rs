//! Names of the keys of the Secrets that a policy names: the one list for the job-runner that reads them, and for the tools that look for them.

/// Where the store is.
pub const URL: &str = "url";
/// User name of the login.
pub const USERNAME: &str = "username";
/// Password of the login.
pub const PASSWORD: &str = "password";
/// Certificate authorities in PEM, which the store's certificate must come from.
pub const CA_CERT: &str = "ca.crt";
/// Client certificate in PEM, followed by its chain; the name is that of a Secret of type `kubernetes.io/tls`.
pub const TLS_CERT: &str = "tls.crt";
/// Private key of [`TLS_CERT`] in PEM, not encrypted.
pub const TLS_KEY: &str = "tls.key";
/// User name of the login to a cache's Sentinels.
pub const SENTINEL_USERNAME: &str = "sentinel-username";
/// Password of the login to a cache's Sentinels.
pub const SENTINEL_PASSWORD: &str = "sentinel-password";
/// Wallets that Oracle's client opens without a password; the second since version 23.
pub const WALLETS: [&str; 2] = ["cwallet.sso", "ewallet.pem"];
/// Configuration of Oracle's client: aliases, and the settings of its network layer.
pub const ORACLE_CONFIGURATION: [&str; 2] = ["tnsnames.ora", "sqlnet.ora"];
