//! Rows, page by page.

use std::marker::PhantomData;

use actlog_http::client::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Call, WebApi, WebApiError};

/// Pages of one query, at most: who links to more goes in a circle.
const MAXIMUM_PAGES: u32 = 100_000;

/// The pages of a set, in the order that the query asks for.
#[derive(Debug)]
pub struct Pages<T> {
    api: WebApi,
    /// The URL of the next page; none behind the last one.
    next: Option<String>,
    /// How many there were.
    read: u32,
    prefer: String,
    /// What errors call it.
    what: String,
    rows: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
struct Page<T> {
    value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(super) fn new(api: WebApi, path_and_query: &str, page_size: u32) -> Self {
        let next = Some(format!("{}{path_and_query}", api.0.base));
        let what = format!("GET {}", path_and_query.split('?').next().unwrap_or_default());
        Self { api, next, read: 0, prefer: format!("odata.maxpagesize={page_size}"), what, rows: PhantomData }
    }

    /// The same with the platform's annotations: labels of choices, names and tables of what is looked up.
    #[must_use]
    pub fn with_annotations(mut self) -> Self {
        self.prefer.push_str(",odata.include-annotations=\"*\"");
        self
    }

    /// The next page; none behind the last one. A page may be empty though there are more. After an error the same page
    /// is asked for again.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, WebApiError> {
        let Some(link) = &self.next else { return Ok(None) };
        let mut call = Call::new(Method::GET, self.api.own(link)?);
        call.prefer = Some(self.prefer.clone());
        let answer = self.api.send(&call).await?;
        let page: Page<T> = call.read(&answer)?;
        if page.next.is_some() && page.next == self.next {
            return Err(call.unusable("the link to the next page leads to the same page"));
        }
        self.read += 1;
        if page.next.is_some() && self.read == MAXIMUM_PAGES {
            return Err(call.unusable("the pages do not end"));
        }
        self.next = page.next;
        Ok(Some(page.value))
    }

    /// All rows that are left, `most` at most.
    ///
    /// # Errors
    /// [`WebApiError`]; also when there are more.
    pub async fn all(mut self, most: usize) -> Result<Vec<T>, WebApiError> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            if all.len() + page.len() > most {
                return Err(WebApiError::Answer {
                    what: self.what,
                    problem: format!("there are more than {most} rows"),
                });
            }
            all.extend(page);
        }
        Ok(all)
    }
}
