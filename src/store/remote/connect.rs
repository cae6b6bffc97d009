//! From an address to a client of its service.

use opendal::Operator;
use opendal::services::{Azblob, Gcs, S3, Sftp, Webdav};

use super::super::StoreError;
use super::{RemoteAddress, Service, Writing};

/// What opens the services that do not look for credentials themselves. S3, GCS and Azure find theirs where their own
/// tools do: variables, files in the home folder, the machine's role.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Id of an access key of S3, rather than one that is found.
    pub s3_access_key_id: Option<String>,
    /// Its secret.
    pub s3_secret_access_key: Option<String>,
    /// User of a `WebDAV` server.
    pub webdav_user: Option<String>,
    /// Password of a `WebDAV` server.
    pub webdav_password: Option<String>,
    /// Bearer token for a `WebDAV` server.
    pub webdav_token: Option<String>,
    /// Name of the storage account with Azure.
    pub azure_account: Option<String>,
    /// Key of the storage account with Azure.
    pub azure_key: Option<String>,
    /// Shared access signature with Azure.
    pub azure_sas: Option<String>,
}

/// Says nothing.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

pub(super) struct Connected {
    pub(super) operator: Operator,
    pub(super) prefix: String,
    pub(super) writing: Writing,
    pub(super) first_temporary: u64,
}

pub(super) fn connect(address: &RemoteAddress, credentials: &Credentials) -> Result<Connected, StoreError> {
    // The first call in the process counts, later ones do nothing.
    opendal::install_default();
    let failed = |error: opendal::Error| address.invalid(error.message());
    let first_temporary = getrandom::u64().map_err(|error| address.invalid(&error.to_string()))?;
    let connected =
        |operator, writing| Connected { operator, prefix: String::new(), writing, first_temporary };
    let root = format!("/{}", address.path());
    match address.service() {
        Service::S3 => {
            let writing = match address.option("conditional") {
                None | Some("yes") => Writing::Conditional,
                Some("no") => Writing::LookFirst,
                Some(_) => return Err(address.invalid("conditional is yes or no")),
            };
            Ok(connected(Operator::new(s3(address, credentials, &root)?).map_err(failed)?, writing))
        }
        Service::Gcs => {
            let mut builder = Gcs::default().bucket(address.host()).root(&root);
            if let Some(endpoint) = address.option("endpoint") {
                builder = builder.endpoint(endpoint);
            }
            if let Some(class) = address.option("class") {
                builder = builder.default_storage_class(class);
            }
            Ok(connected(Operator::new(builder).map_err(failed)?, Writing::Conditional))
        }
        Service::Azblob => {
            let builder = azblob(address, credentials, &root)?;
            Ok(connected(Operator::new(builder).map_err(failed)?, Writing::Conditional))
        }
        Service::Sftp => sftp(address, first_temporary).map_err(failed),
        Service::Webdav { tls } => {
            let scheme = if tls { "https" } else { "http" };
            let mut builder =
                Webdav::default().endpoint(&format!("{scheme}://{}", address.host())).root(&root);
            if let Some(user) = address.user().or(credentials.webdav_user.as_deref()) {
                builder = builder.username(user);
                builder = builder.password(credentials.webdav_password.as_deref().unwrap_or_default());
            }
            if let Some(token) = &credentials.webdav_token {
                builder = builder.token(token);
            }
            Ok(connected(Operator::new(builder).map_err(failed)?, Writing::Rename))
        }
    }
}

fn s3(address: &RemoteAddress, credentials: &Credentials, root: &str) -> Result<S3, StoreError> {
    let mut builder = S3::default().bucket(address.host()).root(root);
    let endpoint = address.option("endpoint");
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint(endpoint);
    }
    builder = match (address.option("region"), endpoint) {
        (Some(region), _) => builder.region(region),
        // Servers of one's own have no regions, and a signature needs one.
        (None, _) => builder.region("us-east-1"),
    };
    match (address.option("style"), endpoint) {
        (Some("virtual"), _) | (None, None) => builder = builder.enable_virtual_host_style(),
        (Some("path"), _) | (None, Some(_)) => {}
        _ => return Err(address.invalid("style is path or virtual")),
    }
    if let Some(class) = address.option("class") {
        builder = builder.default_storage_class(class);
    }
    if address.option("anonymous") == Some("yes") {
        builder = builder.skip_signature();
    }
    if let (Some(id), Some(secret)) = (&credentials.s3_access_key_id, &credentials.s3_secret_access_key) {
        builder = builder.access_key_id(id).secret_access_key(secret);
    }
    if let Some(profile) = address.option("profile") {
        builder = builder.profile(profile);
    }
    Ok(builder)
}

fn azblob(address: &RemoteAddress, credentials: &Credentials, root: &str) -> Result<Azblob, StoreError> {
    let account = address.option("account").or(credentials.azure_account.as_deref());
    let endpoint = match (address.option("endpoint"), account) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(account)) => format!("https://{account}.blob.core.windows.net"),
        (None, None) => {
            return Err(address.invalid("name the storage account with ?account= or AZURE_STORAGE_ACCOUNT"));
        }
    };
    let mut builder = Azblob::default().container(address.host()).root(root).endpoint(&endpoint);
    if let Some(account) = account {
        builder = builder.account_name(account);
    }
    if let Some(key) = &credentials.azure_key {
        builder = builder.account_key(key);
    }
    if let Some(sas) = &credentials.azure_sas {
        builder = builder.sas_token(sas);
    }
    Ok(builder)
}

/// `OpenSSH`'s own client makes the connection, so that everything in `~/.ssh` counts: keys, agents, hosts, jumps.
fn sftp(address: &RemoteAddress, first_temporary: u64) -> Result<Connected, opendal::Error> {
    let user = address.user().map(|user| format!("{user}@")).unwrap_or_default();
    let mut builder = Sftp::default().endpoint(&format!("ssh://{user}{}", address.host()));
    let mut prefix = String::new();
    match address.path().strip_prefix("~/") {
        Some(below_home) => prefix = format!("{below_home}/"),
        None if address.path() == "~" => {}
        None => builder = builder.root(&format!("/{}", address.path())),
    }
    if let Some(key) = address.option("key") {
        builder = builder.key(key);
    }
    builder = builder.known_hosts_strategy(address.option("known-hosts").unwrap_or("strict"));
    Ok(Connected { operator: Operator::new(builder)?, prefix, writing: Writing::Rename, first_temporary })
}
