//! Kubeconfig files: which ones are read, and how they are merged.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use kube::config::Kubeconfig;
use serde_json::{Map, Value};

use super::{ConnectionError, Environment};
use crate::yaml;

/// Where the kubeconfig is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// In this one, which has to be there.
    One(PathBuf),
    /// In those of these that are there; the first that says something holds.
    Those(Vec<PathBuf>),
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Read {
    /// Together.
    pub kubeconfig: Kubeconfig,
    /// Files of the variable `KUBECONFIG` that are not there.
    pub missing: Vec<PathBuf>,
}

impl Files {
    /// Where kubectl would look: `explicit`, the list in `KUBECONFIG`, or `~/.kube/config`.
    #[must_use]
    pub fn named(explicit: Option<&Path>, environment: &Environment) -> Self {
        if let Some(path) = explicit.filter(|path| !path.as_os_str().is_empty()) {
            return Self::One(path.to_owned());
        }
        if let Some(list) = environment.value("KUBECONFIG") {
            let mut seen = BTreeSet::new();
            let named = std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty());
            return Self::Those(named.filter(|path| seen.insert(path.clone())).collect());
        }
        // Without HOME, the home that the system's users have.
        let home = environment.value("HOME").map(PathBuf::from).or_else(std::env::home_dir);
        Self::Those(home.into_iter().map(|home| home.join(".kube/config")).collect())
    }

    /// Reads and merges them.
    ///
    /// # Errors
    /// One of them can't be read, other than because it is not there, or is no kubeconfig.
    pub fn read(&self) -> Result<Read, ConnectionError> {
        let (paths, must_exist) = match self {
            Self::One(path) => (std::slice::from_ref(path), true),
            Self::Those(paths) => (paths.as_slice(), false),
        };
        let mut read = Read::default();
        for path in paths {
            let text = match std::fs::read(path) {
                Ok(bytes) => String::from_utf8(bytes).map_err(|_| malformed(path, "is no text in UTF-8"))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                    read.missing.push(path.clone());
                    continue;
                }
                Err(error) => {
                    return Err(ConnectionError::Unreadable {
                        what: "kubeconfig",
                        path: path.clone(),
                        error,
                    });
                }
            };
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            let one = parse(&text, &folder).map_err(|what| malformed(path, &what))?;
            read.kubeconfig = read
                .kubeconfig
                .merge(one)
                .map_err(|error| malformed(path, &error.to_string()))?;
        }
        Ok(read)
    }
}

fn malformed(path: &Path, what: &str) -> ConnectionError {
    ConnectionError::Malformed {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

/// What a kubeconfig in `folder` says, its relative paths made absolute.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(text: &str, folder: &Path) -> Result<Kubeconfig, String> {
    let mut root = match yaml::first(text).map_err(|error| error.to_string())? {
        Value::Object(root) => root,
        Value::Null => Map::new(),
        _ => return Err("is no mapping".to_owned()),
    };
    tidy(&mut root)?;
    let mut kubeconfig: Kubeconfig =
        serde_path_to_error::deserialize(Value::Object(root)).map_err(|error| error.to_string())?;
    make_absolute(&mut kubeconfig, folder);
    Ok(kubeconfig)
}

/// Makes of what kubectl takes what kube's types take: there null and an empty text are as if they were not there, a name may be missing,
/// and what is for other programs is of no matter.
fn tidy(root: &mut Map<String, Value>) -> Result<(), String> {
    for (field, expected) in [("kind", "Config"), ("apiVersion", "v1")] {
        match root.remove(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(said)) if said == expected || said.is_empty() => {}
            Some(said) => return Err(format!("{field} is {said}; a kubeconfig has {expected}")),
        }
    }
    for field in ["preferences", "extensions"] {
        root.remove(field);
    }
    drop_empty(root);
    for (list, inner) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
        let mut names = BTreeSet::new();
        let Some(Value::Array(entries)) = root.get_mut(list) else {
            continue;
        };
        for (position, entry) in entries.iter_mut().enumerate() {
            if entry.is_null() {
                *entry = Value::Object(Map::new());
            }
            // Any other mistake is reported with its place when the value is read.
            let Value::Object(entry) = entry else { continue };
            drop_empty(entry);
            let name = entry.entry("name").or_insert_with(|| "".into()).clone();
            if !names.insert(name.to_string()) {
                return Err(format!("{list}[{position}]: the name {name} is there twice"));
            }
            let settings = entry.entry(inner).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(settings) = settings {
                tidy_settings(settings, list);
            }
        }
    }
    Ok(())
}

fn tidy_settings(settings: &mut Map<String, Value>, list: &str) {
    drop_empty(settings);
    if list == "contexts" {
        settings.entry("cluster").or_insert_with(|| "".into());
    }
    if list == "clusters" {
        if let Some(Value::Array(extensions)) = settings.get_mut("extensions") {
            extensions.retain(|one| one.get("name").is_some() && one.get("extension").is_some());
        }
    } else {
        settings.remove("extensions");
    }
    for part in ["exec", "auth-provider"] {
        let Some(Value::Object(part)) = settings.get_mut(part) else {
            continue;
        };
        drop_empty(part);
        part.entry("name").or_insert_with(|| "".into());
        if let Some(Value::Object(config)) = part.get_mut("config") {
            drop_empty(config);
        }
    }
}

fn drop_empty(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
}

fn make_absolute(kubeconfig: &mut Kubeconfig, folder: &Path) {
    let absolute = |path: &mut Option<String>| {
        if let Some(relative) = path.as_deref().filter(|path| Path::new(path).is_relative())
            && let Some(joined) = folder.join(relative).to_str()
        {
            *path = Some(joined.to_owned());
        }
    };
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        absolute(&mut cluster.certificate_authority);
    }
    for user in kubeconfig
        .auth_infos
        .iter_mut()
        .filter_map(|named| named.auth_info.as_mut())
    {
        absolute(&mut user.client_certificate);
        absolute(&mut user.client_key);
        absolute(&mut user.token_file);
        // A program without a slash is looked for on the PATH.
        if let Some(exec) = user.exec.as_mut()
            && exec.command.as_ref().is_some_and(|command| command.contains('/'))
        {
            absolute(&mut exec.command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Kubeconfig, String> {
        parse(text, Path::new("/home/x"))
    }

    #[test]
    fn what_kubectl_takes_is_a_kubeconfig() {
        for text in [
            "",
            "# nothing\n",
            "{}",
            "apiVersion: v1\nkind: Config\nclusters: null\nusers: []\ncontexts:\n",
            "contexts: [{name: x, context: {user: z}}]",
            "contexts: [{name: x}]\nclusters: [{name: x}]\nusers: [{name: x, user: null}]",
            "preferences: {colors: maybe}\nextensions: {a: 1}",
            "unknown: {a: [1]}\nclusters: [{name: x, more: 1, cluster: {server: s, certificate: 2}}]",
            "clusters: [{name: x, cluster: {extensions: [{name: v}, {name: z, extension: null}]}}]",
            "users: [{name: x, user: {exec: {command: z, env: null, args: null}}}]",
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text).err());
        }
    }

    #[test]
    fn what_is_none_is_told_with_its_place() {
        for (text, expected) in [
            ("[]", "is no mapping"),
            ("a: [", "line "),
            ("kind: Pod", "kind is \"Pod\"; a kubeconfig has Config"),
            ("apiVersion: v2", "apiVersion is \"v2\""),
            (
                "users: [{name: x}, {name: x}]",
                "users[1]: the name \"x\" is there twice",
            ),
            (
                "clusters: [{name: x, cluster: {server: 1}}]",
                "clusters[0].cluster.server: invalid type: integer",
            ),
            (
                "users: [{name: x, user: {token: on}}]",
                "users[0].user.token: invalid type: boolean",
            ),
            ("clusters: {}", "clusters: invalid type: map"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_empty_text_is_as_if_it_were_not_there() {
        let text = "current-context: ''\ncontexts: [{name: x, context: {cluster: c, namespace: ''}}]\n\
                    users: [{name: u, user: {token: '', exec: {command: c, installHint: ''}}}]";
        let kubeconfig = read(text).unwrap();
        assert_eq!(kubeconfig.current_context, None);
        assert_eq!(kubeconfig.contexts[0].context.as_ref().unwrap().namespace, None);
        let user = kubeconfig.auth_infos[0].auth_info.as_ref().unwrap();
        assert!(user.token.is_none() && user.exec.as_ref().unwrap().install_hint.is_none());
    }

    #[test]
    fn relative_paths_are_of_the_folder_of_their_file() {
        let text = "clusters: [{name: c, cluster: {certificate-authority: pki/ca.crt}}]\nusers:\n- {name: u, user: {tokenFile: ../t, \
                    client-certificate: /c, client-key: k, exec: {command: bin/login}}}\n- {name: v, user: {exec: {command: login}}}";
        let kubeconfig = read(text).unwrap();
        let cluster = kubeconfig.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.certificate_authority.as_deref(), Some("/home/x/pki/ca.crt"));
        let user = |position: usize| kubeconfig.auth_infos[position].auth_info.as_ref().unwrap();
        assert_eq!(user(0).token_file.as_deref(), Some("/home/x/../t"));
        assert_eq!(user(0).client_certificate.as_deref(), Some("/c"));
        assert_eq!(user(0).client_key.as_deref(), Some("/home/x/k"));
        let command = |position: usize| user(position).exec.as_ref().unwrap().command.clone().unwrap();
        assert_eq!(
            (command(0).as_str(), command(1).as_str()),
            ("/home/x/bin/login", "login")
        );
    }

    #[test]
    fn files_are_looked_for_where_kubectl_looks() {
        let those = |paths: &[&str]| Files::Those(paths.iter().map(PathBuf::from).collect());
        for (explicit, variables, expected) in [
            (Some("x"), &[("KUBECONFIG", "/a")][..], Files::One("x".into())),
            (Some(""), &[("KUBECONFIG", "/a")], those(&["/a"])),
            (None, &[("KUBECONFIG", ":/a::/b:/a:")], those(&["/a", "/b"])),
            (None, &[("KUBECONFIG", ":"), ("HOME", "/h")], those(&[])),
            (None, &[("KUBECONFIG", ""), ("HOME", "/h")], those(&["/h/.kube/config"])),
            (None, &[("HOME", "/h")], those(&["/h/.kube/config"])),
        ] {
            let environment = Environment::of(variables.iter().copied());
            assert_eq!(
                Files::named(explicit.map(Path::new), &environment),
                expected,
                "{explicit:?} {variables:?}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_left_out_and_the_first_that_says_something_holds() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let first = write("a", "users: [{name: red, user: {username: first}}]");
        let second = write(
            "b",
            "current-context: second\nusers: [{name: red, user: {username: other, token: t}}, {name: green}]",
        );
        let third = write("c", "current-context: third");
        let missing = folder.path().join("none");
        let read = Files::Those(vec![missing.clone(), first, second, third.clone()])
            .read()
            .unwrap();
        assert_eq!(read.missing, std::slice::from_ref(&missing));
        assert_eq!(read.kubeconfig.current_context.as_deref(), Some("second"));
        assert_eq!(read.kubeconfig.auth_infos.len(), 2);
        let red = read.kubeconfig.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!((red.username.as_deref(), red.token.is_none()), (Some("first"), true));
        assert!(matches!(
            Files::One(missing).read(),
            Err(ConnectionError::Unreadable { .. })
        ));
        assert!(matches!(
            Files::Those(vec![third, folder.path().to_owned()]).read(),
            Err(ConnectionError::Unreadable { .. })
        ));
    }
}
