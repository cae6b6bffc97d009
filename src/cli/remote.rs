//! From an address that was typed to a store: its client, and around it what counts, holds back, asks again and remembers.

use std::sync::Arc;

use pagevault::store::{
    CacheStore, CountingStore, Credentials, Patience, RemoteAddress, RemoteStore, RetryStore, Service, Store,
    ThrottledStore,
};
use pagevault::{Error, ErrorKind, Result};

use super::environment::Environment;
use super::places::Opener;
use super::values;

/// Ciphertext kept on this machine, unless a variable says otherwise.
const CACHE_LIMIT: u64 = 2 << 30;
/// Ranges are read from packs.
const PACKS: &str = "packs";

/// The store at `address`; `retries` counts if the address says nothing of them.
pub(crate) fn open(address: &str, retries: Option<u32>, places: &Opener) -> Result<Box<dyn Store>> {
    let environment = &places.environment;
    let address = completed(address.parse()?, environment);
    let address = address.with_default("retries", retries.map(|number| number.to_string()));
    let client = RemoteStore::open(&address, &credentials(environment))?;
    let limits = client.limits();
    let counted = Arc::new(CountingStore::new(client));
    let counter = Arc::clone(&counted);
    places.requests.add(move || (counter.describe(), counter.counts()));
    let patience = Patience { retries: limits.retries, ..Patience::default() };
    let throttled = limits.rate.map(|rate| ThrottledStore::new(Arc::clone(&counted), rate));
    let store: Box<dyn Store> = match throttled {
        Some(throttled) => Box::new(RetryStore::new(throttled, patience)),
        None => Box::new(RetryStore::new(counted, patience)),
    };
    let folder = environment.cache_folder().map(|folder| folder.join("objects"));
    Ok(Box::new(CacheStore::new(store, PACKS, folder, cache_limit(environment)?)))
}

fn cache_limit(environment: &Environment) -> Result<u64> {
    let Some(text) = environment.get("PAGEVAULT_CACHE_SIZE") else { return Ok(CACHE_LIMIT) };
    values::bytes(&text.to_string_lossy())
        .map_err(|error| Error::new(ErrorKind::Usage, format!("PAGEVAULT_CACHE_SIZE: {error}")))
}

/// What an address leaves open, other tools' variables say.
fn completed(address: RemoteAddress, environment: &Environment) -> RemoteAddress {
    let get = |names: &[&str]| {
        names.iter().find_map(|name| environment.get(name)).map(|value| value.to_string_lossy().into_owned())
    };
    match address.service() {
        Service::S3 => address
            .with_default("endpoint", get(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
            .with_default("region", get(&["AWS_REGION", "AWS_DEFAULT_REGION"])),
        _ => address,
    }
}

fn credentials(environment: &Environment) -> Credentials {
    let get = |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
    Credentials {
        // S3's own client looks for them.
        s3_access_key_id: None,
        s3_secret_access_key: None,
        webdav_user: get("PAGEVAULT_WEBDAV_USER"),
        webdav_password: get("PAGEVAULT_WEBDAV_PASSWORD"),
        webdav_token: get("PAGEVAULT_WEBDAV_TOKEN"),
        azure_account: get("AZURE_STORAGE_ACCOUNT"),
        azure_key: get("AZURE_STORAGE_KEY"),
        azure_sas: get("AZURE_STORAGE_SAS_TOKEN"),
    }
}
