//! Records of names, asked of the operator's resolvers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError as ResolveError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{self, Name, RData, Record};
use hickory_resolver::system_conf::read_system_conf;

use crate::bindings::shoal::plugin::net::{DnsAnswer, DnsRecord, NetError, RecordType};
use crate::call::cut;
use crate::egress::Network;
use crate::egress::net::net_error;
use crate::egress::target::{Host, Target};

/// Records of an answer that are told; part of the contract.
const RECORDS_MAX: usize = 100;
/// Longest record as text, in bytes: a TXT record of usual length takes a tenth.
const DATA_MAX_BYTES: usize = 4096;
/// Longest wait for one resolver before the next, or another attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// The resolvers that queries are put to.
#[derive(Clone)]
pub(crate) struct Resolvers(Result<TokioResolver, String>);

impl Resolvers {
    /// Those at these addresses; where there are none, those of the operating system.
    ///
    /// That a system has none is told to whoever asks, not to whoever starts a server that never will.
    pub(crate) fn new(addresses: &[SocketAddr]) -> Resolvers {
        let config = match addresses {
            [] => read_system_conf().map(|(config, _)| config),
            addresses => Ok(ResolverConfig::from_parts(
                None,
                Vec::new(),
                addresses.iter().map(at).collect(),
            )),
        };
        let resolver = config.and_then(|config| {
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                .with_options(options())
                .build()
        });
        Resolvers(resolver.map_err(|e| e.to_string()))
    }
}

fn at(address: &SocketAddr) -> NameServerConfig {
    let over = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![over(ConnectionConfig::udp()), over(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

/// Whole names only, and nothing kept or made up: a check wants to know what is answered now.
fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = ATTEMPT_MAX;
    options
}

impl Network {
    /// Asks for records of a target that the grant covers, by its name for queries.
    pub(crate) async fn dns_query(
        &self,
        target: &Target,
        name: Name,
        record_type: RecordType,
    ) -> Result<DnsAnswer, NetError> {
        if let Some(script) = &self.script {
            script.before_resolving(target).await.map_err(net_error)?;
        }
        let host = &target.host;
        let failed = |why: &str| NetError::Failed(format!("no answer about {host}: {why}"));
        let resolver = self.resolvers.0.as_ref().map_err(|e| failed(e))?;
        let answer = match resolver.lookup(name, of_wit(record_type)).await {
            Ok(found) => found,
            Err(error) => {
                return match error {
                    ResolveError::Timeout => {
                        let why = format!("the resolvers did not answer about {host}");
                        Err(NetError::TimedOut(why))
                    }
                    ResolveError::Dns(DnsError::NoRecordsFound(none)) => {
                        Ok(empty(none.response_code))
                    }
                    ResolveError::Dns(DnsError::ResponseCode(code)) => Ok(empty(code)),
                    error => Err(failed(&error.to_string())),
                };
            }
        };
        for record in answer.answers() {
            if let Some((ip, range)) = self.refused(record) {
                return Err(NetError::Denied(format!(
                    "{host} resolves to {ip} ({range}), which plugins are not told unless the operator opens it (network.allow_private)"
                )));
            }
        }
        let records = answer.answers().iter().take(RECORDS_MAX);
        Ok(DnsAnswer {
            code: code(answer.message().response_code),
            records: records.map(told).collect(),
        })
    }

    /// The name to ask for: that of an address when its name is wanted, and no other way to write that.
    pub(crate) fn query_name(
        &self,
        host: &Host,
        record_type: RecordType,
    ) -> Result<Name, NetError> {
        match host {
            Host::Ip(ip) if record_type == RecordType::Ptr => match self.policy.refuses(*ip) {
                None => Ok(Name::from(*ip)),
                Some(range) => Err(NetError::Denied(format!(
                    "{ip} ({range}) is an address about which plugins are not told unless the operator opens it (network.allow_private)"
                ))),
            },
            Host::Ip(ip) => Err(NetError::Failed(format!(
                "{ip} is an address: only a PTR record belongs to it"
            ))),
            Host::Name(name) if name.ends_with(".arpa") => Err(NetError::Denied(format!(
                "{name} stands for an address: ask for the PTR record of the address itself"
            ))),
            Host::Name(name) => Name::from_ascii(format!("{name}."))
                .map_err(|e| NetError::Failed(format!("{name} is no name for a query: {e}"))),
        }
    }

    fn refused(&self, record: &Record) -> Option<(IpAddr, &'static str)> {
        let ip = match &record.data {
            RData::A(ip) => IpAddr::V4(ip.0),
            RData::AAAA(ip) => IpAddr::V6(ip.0),
            _ => return None,
        };
        Some((ip, self.policy.refuses(ip)?))
    }
}

pub(crate) fn of_wit(record_type: RecordType) -> rr::RecordType {
    match record_type {
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
        RecordType::Caa => rr::RecordType::CAA,
        RecordType::Cname => rr::RecordType::CNAME,
        RecordType::Mx => rr::RecordType::MX,
        RecordType::Ns => rr::RecordType::NS,
        RecordType::Ptr => rr::RecordType::PTR,
        RecordType::Soa => rr::RecordType::SOA,
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::Txt => rr::RecordType::TXT,
    }
}

fn told(record: &Record) -> DnsRecord {
    let name = record.name.to_ascii();
    let data = match &record.data {
        RData::TXT(text) => String::from_utf8_lossy(&text.txt_data.concat()).into_owned(),
        data => data.to_string(),
    };
    DnsRecord {
        name: name.strip_suffix('.').unwrap_or(&name).to_owned(),
        record_type: record.record_type().to_string(),
        ttl_seconds: record.ttl,
        data: cut(data, DATA_MAX_BYTES),
    }
}

fn empty(response: ResponseCode) -> DnsAnswer {
    DnsAnswer {
        code: code(response),
        records: Vec::new(),
    }
}

/// As the registry of response codes writes it.
fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
