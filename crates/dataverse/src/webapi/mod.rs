//! The Web API of a live environment: rows are read page by page, created, changed and deleted; actions are called.
//!
//! It signs in with client credentials, speaks OData 4.0 at `{url}/api/data/v9.2/`, waits when the environment asks for
//! patience (its service protection limits), and goes nowhere but there: a link to the next page that leads elsewhere
//! is an error. It knows no table; who uses it does.

mod error;
mod flags;
mod pages;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{ConfigError, Organization};
use actlog_http::client::{Backoff, Client, Method, Request, Response, StatusCode};
use actlog_http::oauth::{Endpoint, TokenSource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use uuid::Uuid;

pub use error::WebApiError;
pub use pages::Pages;

/// Longest that one request waits, in all, for an environment that is busy. The platform's windows have five minutes.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How often one request is sent at most.
const MOST_TRIES: u32 = 20;

/// The Web API of one environment. Clones share the token and the connections.
#[derive(Clone, Debug)]
pub struct WebApi(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `https://contoso.crm.dynamics.com/api/data/v9.2/`, as [`Url`] writes it.
    base: String,
    client: Client,
    tokens: TokenSource,
}

impl WebApi {
    /// The environment of an organisation, which needs `url`, `tenant` and `application`. Relative paths of secrets are
    /// seen from `config_dir`. Nothing is sent yet.
    ///
    /// # Errors
    /// When one of them is missing or can't be used, at its key below `[organizations.NAME]`.
    pub fn connect(organization: &Organization, client: Client, config_dir: &Path) -> Result<Self, ConfigError> {
        let missing = |key: &str, what: &str| ConfigError::new(key, format!("is needed to sign in: {what}"));
        let url = organization
            .url
            .as_deref()
            .ok_or_else(|| missing("url", "the environment's URL, such as \"https://contoso.crm.dynamics.com\""))?;
        let tenant = organization.tenant.ok_or_else(|| missing("tenant", "the id of the Entra tenant"))?;
        let application = organization
            .application
            .as_ref()
            .ok_or_else(|| missing("application", "{ client_id = \"…\", secret = { file = \"…\" } }"))?;
        application.validate().map_err(|error| error.within("application"))?;
        let unusable = |problem: String| ConfigError::new("url", problem);
        let parsed = Url::parse(url).map_err(|error| unusable(format!("{url:?} is not a URL: {error}")))?;
        let is_root = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
        if !is_root || parsed.cannot_be_a_base() || !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(unusable(
                "only the environment's root is expected, https://contoso.crm.dynamics.com".to_owned(),
            ));
        }
        let base = format!("{parsed}api/data/v9.2/");
        let resource = parsed.as_str().trim_end_matches('/');
        let tokens =
            TokenSource::new(client.clone(), &tenant.to_string(), application, Endpoint::V2, resource, config_dir)
                .map_err(|error| error.within("application"))?;
        Ok(Self(Arc::new(Inner { base, client, tokens })))
    }

    /// URL of the environment, without a slash at its end.
    pub fn url(&self) -> &str {
        self.0.base.trim_end_matches("/api/data/v9.2/")
    }

    /// Reads what is at a path below the base, such as `organizations?$select=name`. Values in it are written with
    /// [`literal`].
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn get<T: DeserializeOwned>(&self, path_and_query: &str) -> Result<T, WebApiError> {
        let call = Call::new(Method::GET, self.below(path_and_query)?);
        let answer = self.send(&call).await?;
        call.read(&answer)
    }

    /// Reads the rows of a set, up to `page_size` at once.
    pub fn pages<T: DeserializeOwned>(&self, path_and_query: &str, page_size: u32) -> Pages<T> {
        Pages::new(self.clone(), path_and_query, page_size)
    }

    /// Creates a row of a set, and gives its id. Lookups are set as `"…@odata.bind": "/set(id)"`.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn create<B: Serialize + ?Sized>(&self, set: &str, body: &B) -> Result<Uuid, WebApiError> {
        let call = Call::with_body(Method::POST, self.below(set)?, body)?;
        let answer = self.send(&call).await?;
        let location = answer.headers.get("odata-entityid").and_then(|value| value.to_str().ok());
        let id = location.and_then(|text| Uuid::try_parse(text.strip_suffix(')')?.rsplit_once('(')?.1).ok());
        id.ok_or_else(|| call.unusable("the answer does not say the id of what was created"))
    }

    /// Changes columns of a row that exists: `serviceendpoints(…)`.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn update<B: Serialize + ?Sized>(&self, path: &str, body: &B) -> Result<(), WebApiError> {
        let mut call = Call::with_body(Method::PATCH, self.below(path)?, body)?;
        // Without it, a row that is gone would be created.
        call.headers.push(("If-Match", "*"));
        self.send(&call).await.map(drop)
    }

    /// Replaces a definition of a table or column, which must be whole; labels in other languages are kept.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn replace_definition<B: Serialize + ?Sized>(&self, path: &str, body: &B) -> Result<(), WebApiError> {
        let mut call = Call::with_body(Method::PUT, self.below(path)?, body)?;
        call.headers.push(("MSCRM.MergeLabels", "true"));
        self.send(&call).await.map(drop)
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn delete(&self, path: &str) -> Result<(), WebApiError> {
        let call = Call::new(Method::DELETE, self.below(path)?);
        self.send(&call).await.map(drop)
    }

    /// Calls an action. One that answers nothing is read as `()`.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn action<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, WebApiError> {
        let call = Call::with_body(Method::POST, self.below(path)?, body)?;
        let answer = self.send(&call).await?;
        call.read(&answer)
    }

    /// The URL of a path below the base.
    fn below(&self, path_and_query: &str) -> Result<Url, WebApiError> {
        self.own(&format!("{}{path_and_query}", self.0.base))
    }

    /// A URL, if it is one of this Web API.
    fn own(&self, text: &str) -> Result<Url, WebApiError> {
        match Url::parse(text) {
            Ok(url) if url.as_str().starts_with(&self.0.base) => Ok(url),
            Ok(url) => Err(WebApiError::Elsewhere {
                environment: self.url().to_owned(),
                host: url.host_str().unwrap_or_default().to_owned(),
            }),
            Err(error) => Err(WebApiError::Answer { what: "a link".to_owned(), problem: error.to_string() }),
        }
    }

    /// Sends until there is an answer other than "later", and makes an error of one that is no success.
    async fn send(&self, call: &Call) -> Result<Response, WebApiError> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut waited = Duration::ZERO;
        let mut is_new_token = false;
        for _ in 0..MOST_TRIES {
            let token = self.0.tokens.token().await?;
            let mut request = Request::new(call.method.clone(), &call.url)
                .bearer(&token)
                .header("Accept", "application/json")
                .header("OData-Version", "4.0")
                .header("OData-MaxVersion", "4.0");
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            if let Some(prefer) = &call.prefer {
                request = request.header("Prefer", prefer);
            }
            if let Some(body) = &call.body {
                request = request.header("Content-Type", "application/json").body(body.clone());
            }
            let answer = self.0.client.send(request).await.map_err(|error| call.failed(error))?;
            match answer.status {
                status if status.is_success() => return Ok(answer),
                StatusCode::UNAUTHORIZED if !is_new_token => {
                    self.0.tokens.forget(&token);
                    is_new_token = true;
                }
                status if status == StatusCode::TOO_MANY_REQUESTS || call.may_repeat_after(&answer) => {
                    let wait = answer.retry_after().unwrap_or_else(|| backoff.next());
                    waited = waited.saturating_add(wait);
                    if waited > PATIENCE {
                        return Err(call.refused(&answer, Some(wait)));
                    }
                    tracing::debug!(status = status.as_u16(), ?wait, "the environment is busy");
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(call.refused(&answer, None)),
            }
        }
        Err(call.unusable("the environment is busy, and has been at every try"))
    }
}

/// One request, to be sent as often as needed.
struct Call {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, &'static str)>,
    prefer: Option<String>,
    body: Option<Vec<u8>>,
}

impl Call {
    fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), prefer: None, body: None }
    }

    fn with_body<B: Serialize + ?Sized>(method: Method, url: Url, body: &B) -> Result<Self, WebApiError> {
        let mut call = Self::new(method, url);
        let body = serde_json::to_vec(body).map_err(|_| call.unusable("the body has no JSON form"))?;
        call.body = Some(body);
        Ok(call)
    }

    /// Whether 503 says that nothing was done: where the environment says when to come again, and where doing it twice
    /// is the same as doing it once.
    fn may_repeat_after(&self, answer: &Response) -> bool {
        answer.status == StatusCode::SERVICE_UNAVAILABLE
            && (self.method != Method::POST || answer.retry_after().is_some())
    }

    fn read<T: DeserializeOwned>(&self, answer: &Response) -> Result<T, WebApiError> {
        if answer.body.is_empty() {
            return serde_json::from_str("null").map_err(|_| self.unusable("the answer is empty"));
        }
        answer.json().map_err(|error| self.failed(error))
    }

    /// Method and path, without the query, which may hold values.
    fn what(&self) -> String {
        let path = self.url.path();
        format!("{} {}", self.method, path.split_once("/v9.2/").map_or(path, |(_, path)| path))
    }

    fn failed(&self, error: actlog_http::client::ClientError) -> WebApiError {
        WebApiError::Client { what: self.what(), error }
    }

    fn unusable(&self, problem: &str) -> WebApiError {
        WebApiError::Answer { what: self.what(), problem: problem.to_owned() }
    }

    fn refused(&self, answer: &Response, retry_after: Option<Duration>) -> WebApiError {
        WebApiError::refused(self.what(), answer, retry_after)
    }
}

/// A text as a literal in a path or query: in quotes, which are doubled inside, and escaped for the URL.
///
/// ```
/// # use actlog_dataverse::webapi::literal;
/// assert_eq!(literal("O'Hara & Söhne"), "'O%27%27Hara%20%26%20S%C3%B6hne'");
/// ```
pub fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for byte in text.replace('\'', "''").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            literal.push(char::from(byte));
        } else {
            literal.push_str(&format!("%{byte:02X}"));
        }
    }
    literal.push('\'');
    literal
}
