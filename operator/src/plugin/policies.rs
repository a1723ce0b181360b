//! Reads policies page by page: while the API server works on a page, the one before is understood, and what is not needed of it forgotten.

use futures::future;
use http::{HeaderValue, header::ACCEPT};
use kube::{
    Resource,
    api::{ListParams, ObjectMeta, Request},
};
use mapa_refresh_crds::{MapaRefreshPolicy, MapaRefreshPolicySpec, MapaRefreshPolicyStatus};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    cluster::Cluster,
    error::PluginError,
    rows::{self, Table, Told},
};

const ACTION: &str = "list the policies";
/// Policies of a page.
const PAGE: u32 = 250;
/// Rows of a page: they are small, and each page has a cost of its own at the API server.
const PAGE_OF_ROWS: u32 = 2_500;

/// A policy, or why it is not understood.
#[derive(Clone, Debug)]
pub enum Listed {
    /// A policy.
    Policy(Box<MapaRefreshPolicy>),
    /// An object of this namespace and name that is none this plugin understands.
    Undecodable {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Where it differs.
        reason: String,
    },
}

/// Which policies.
#[derive(Clone, Copy, Debug)]
pub struct Which<'a> {
    /// The namespace; absent: all.
    pub namespace: Option<&'a str>,
    /// A label selector.
    pub selector: Option<&'a str>,
}

impl Which<'_> {
    fn pages_of(&self, limit: u32) -> ListParams {
        ListParams {
            label_selector: self.selector.map(str::to_owned),
            ..ListParams::default().limit(limit)
        }
    }
}

/// The part of a policy that is read: of the metadata, managed fields above all, little is needed.
#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
    spec: MapaRefreshPolicySpec,
    status: Option<MapaRefreshPolicyStatus>,
}

#[derive(Deserialize)]
struct ItemMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
}

#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMeta,
    items: Vec<T>,
}

/// Metadata of a page.
#[derive(Debug, Deserialize)]
pub struct PageMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl PageMeta {
    /// What the next page is asked for by; none after the last.
    #[must_use]
    pub fn next(self) -> Option<String> {
        self.next.filter(|next| !next.is_empty())
    }
}

impl From<Item> for Listed {
    fn from(item: Item) -> Self {
        let Item { metadata, spec, status } = item;
        Self::Policy(Box::new(MapaRefreshPolicy {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                generation: metadata.generation,
                ..ObjectMeta::default()
            },
            spec,
            status,
        }))
    }
}

impl Listed {
    /// Reads one object, whatever it is.
    #[must_use]
    pub fn of(object: Value) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        match serde_json::from_value::<Item>(object) {
            Ok(item) => item.into(),
            Err(error) => Self::Undecodable {
                namespace,
                name,
                reason: error.to_string(),
            },
        }
    }
}

/// What the page after `page` is asked for by; none after the last. The policies are passed over, which takes a small part of the time
/// that they take to be understood.
fn next(page: &str) -> Result<Option<String>, serde_json::Error> {
    let Page { metadata, items: _ } = serde_json::from_str::<Page<IgnoredAny>>(page)?;
    Ok(metadata.next())
}

/// The policies of `page`.
fn read(page: &str) -> Result<Vec<Listed>, serde_json::Error> {
    Ok(match serde_json::from_str::<Page<Item>>(page) {
        Ok(page) => page.items.into_iter().map(Listed::from).collect(),
        // One of them is not understood: each by itself, which takes longer.
        Err(_) => {
            let page: Page<Value> = serde_json::from_str(page)?;
            page.items.into_iter().map(Listed::of).collect()
        }
    })
}

fn list(which: Which<'_>, page: &ListParams) -> Result<http::Request<Vec<u8>>, PluginError> {
    let request = Request::new(MapaRefreshPolicy::url_path(&(), which.namespace));
    request.list(page).map_err(|error| unasked(ACTION, &error))
}

fn list_of_rows(which: Which<'_>, page: &ListParams) -> Result<http::Request<Vec<u8>>, PluginError> {
    let mut asked = list(which, page)?;
    // There is a limit before it, always.
    let uri = format!("{}&includeObject=None", asked.uri()).parse();
    *asked.uri_mut() = uri.map_err(|error| unasked(ACTION, &error))?;
    asked
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static(rows::ACCEPT));
    Ok(asked)
}

/// `action` cannot even be asked for.
fn unasked(action: &str, error: &dyn std::error::Error) -> PluginError {
    PluginError::Api {
        action: action.to_owned(),
        reason: error.to_string(),
    }
}

impl Cluster {
    /// Hands every policy that `which` means to `take`, in the order of namespace and name.
    ///
    /// # Errors
    /// The cluster does not answer, or with what is no list. What was taken until then stays taken.
    pub async fn each_policy(&self, which: Which<'_>, mut take: impl FnMut(Listed)) -> Result<(), PluginError> {
        let mut page = which.pages_of(PAGE);
        let undecodable = |error: &dyn std::error::Error| PluginError::Undecodable {
            action: ACTION.to_owned(),
            reason: error.to_string(),
        };
        let mut answer = Some(self.page(which, &page).await?);
        while let Some(text) = answer {
            page.continue_token = next(&text).map_err(|error| undecodable(&error))?;
            let understood = tokio::task::spawn_blocking(move || read(&text));
            let following = async {
                match &page.continue_token {
                    Some(_) => self.page(which, &page).await.map(Some),
                    None => Ok(None),
                }
            };
            let (policies, following) = future::join(understood, following).await;
            let policies = policies.map_err(|error| undecodable(&error))?;
            policies
                .map_err(|error| undecodable(&error))?
                .into_iter()
                .for_each(&mut take);
            answer = following?;
        }
        Ok(())
    }

    async fn page(&self, which: Which<'_>, page: &ListParams) -> Result<String, PluginError> {
        let answer = self.client.request_text(list(which, page)?).await;
        answer.map_err(|error| PluginError::of(ACTION, error))
    }

    /// What the API server's own rows tell of every policy that `which` means, in the order of namespace and name; none, when it has no such
    /// rows.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn rows(&self, which: Which<'_>) -> Result<Option<Vec<Told>>, PluginError> {
        let mut page = which.pages_of(PAGE_OF_ROWS);
        let mut all = Vec::new();
        loop {
            let answer = self.client.request_text(list_of_rows(which, &page)?).await;
            let text = answer.map_err(|error| PluginError::of(ACTION, error))?;
            let Ok(table) = serde_json::from_str::<Table>(&text) else {
                return Ok(None);
            };
            let Some(told) = table.read() else {
                return Ok(None);
            };
            all.extend(told);
            match table.metadata.next() {
                Some(next) => page.continue_token = Some(next),
                None => return Ok(Some(all)),
            }
        }
    }

    /// The policy `name` of `namespace`; none, if there is none any more.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn listed(&self, namespace: &str, name: &str) -> Result<Option<Listed>, PluginError> {
        match self.get(namespace, name).await? {
            Ok(object) => Ok(Some(Listed::of(object))),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(PluginError::of(format!("read the policy {namespace}/{name}"), error)),
        }
    }

    /// The outer error: it cannot even be asked for. The inner one: what the cluster says.
    async fn get(&self, namespace: &str, name: &str) -> Result<kube::Result<Value>, PluginError> {
        let asked = Request::new(MapaRefreshPolicy::url_path(&(), Some(namespace)))
            .get(name, &Default::default())
            .map_err(|error| unasked("read the policy", &error))?;
        Ok(self.client.request(asked).await)
    }

    /// The policy `name` of the namespace, as the API server keeps it.
    ///
    /// # Errors
    /// There is none (with names that may have been meant), or the cluster does not answer.
    pub async fn object(&self, name: &str) -> Result<Value, PluginError> {
        // As a name in the path of the request it could mean something else.
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
            || name.is_empty()
        {
            return Err(PluginError::NoSuchPolicy {
                namespace: self.namespace.clone(),
                name: name.to_owned(),
                nearest: Vec::new(),
            });
        }
        match self.get(&self.namespace, name).await? {
            Ok(object) => Ok(object),
            Err(error) => Err(self.about_policy(name, error).await),
        }
    }

    /// The same, understood.
    ///
    /// # Errors
    /// As [`Cluster::object`], or it is no policy that this plugin understands.
    pub async fn policy(&self, name: &str) -> Result<MapaRefreshPolicy, PluginError> {
        let object = self.object(name).await?;
        serde_json::from_value(object).map_err(|error| PluginError::Undecodable {
            action: format!("read the policy {}/{name}", self.namespace),
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, interval: Value) -> Value {
        serde_json::json!({
            "metadata": { "name": name, "namespace": "radar" },
            "spec": {
                "intervalMinutes": interval,
                "database": { "secretRef": { "name": "d" } },
                "cache": { "secretRef": { "name": "c" } },
            },
        })
    }

    #[test]
    fn a_policy_that_is_not_understood_is_named_and_does_not_hide_the_others() {
        let page = serde_json::json!({
            "metadata": { "continue": "next" },
            "items": [policy("a", 10.into()), policy("b", "ten".into()), policy("c", 5.into())],
        });
        assert_eq!(next(&page.to_string()).unwrap().as_deref(), Some("next"));
        let listed = read(&page.to_string()).unwrap();
        assert!(matches!(&listed[0], Listed::Policy(policy) if policy.spec.interval_minutes == 10));
        assert!(
            matches!(&listed[1], Listed::Undecodable { name, reason, .. } if name == "b" && reason.contains("ten"))
        );
        assert!(matches!(&listed[2], Listed::Policy(_)));
    }

    #[test]
    fn the_last_page_names_no_next() {
        for continued in [serde_json::json!({}), serde_json::json!({ "continue": "" })] {
            let page = serde_json::json!({ "metadata": continued, "items": [] });
            assert_eq!(next(&page.to_string()).unwrap(), None);
            assert!(read(&page.to_string()).unwrap().is_empty());
        }
    }
}
