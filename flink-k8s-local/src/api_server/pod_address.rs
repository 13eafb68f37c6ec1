//! Where the server finds the program behind a pod or a Service.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{Server, kinds, read, request::Target, status::ApiError, write::text};

/// The address of a pod, which it has once it runs.
pub(crate) fn of_pod(pod: &Value) -> Result<IpAddr, ApiError> {
    let name = text(pod, "/metadata/name");
    text(pod, "/status/podIP").parse().map_err(|_| {
        ApiError::unavailable(format!(
            "pod {name} has no address yet, its phase is {}",
            text(pod, "/status/phase")
        ))
    })
}

/// `[scheme:]name[:port]` of a proxy path.
pub(crate) struct ProxyName<'a> {
    pub(crate) name: &'a str,
    port: &'a str,
}

/// Takes the name in a proxy path apart.
pub(crate) fn parse_proxy_name(text: &str) -> Result<ProxyName<'_>, ApiError> {
    let (scheme, name, port) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [name] => ("http", *name, ""),
        [name, port] => ("http", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => {
            return Err(ApiError::bad_request(format!(
                "invalid proxy target {text:?}: it is [scheme:]name[:port]"
            )));
        }
    };
    if !matches!(scheme, "" | "http") {
        let message = format!("this server forwards to plain http only, not to {scheme} as in {text:?}");
        return Err(ApiError::bad_request(message));
    }
    Ok(ProxyName { name, port })
}

/// The address that a proxy path leads to.
pub(crate) fn of_proxy_target(server: &Server, target: &Target) -> Result<SocketAddr, ApiError> {
    let proxy_name = parse_proxy_name(target.name.as_deref().unwrap_or(""))?;
    let named = Target {
        name: Some(proxy_name.name.to_owned()),
        ..target.clone()
    };
    let object = read::get(server, &named)?;
    if target.kind.name == "Service" {
        return of_service(server, target, &object.value, &proxy_name);
    }
    let port = match proxy_name.port {
        "" => first_port(&object.value),
        port => port.parse().ok().or_else(|| named_port(&object.value, port)),
    };
    let port = port.ok_or_else(|| {
        ApiError::bad_request(format!(
            "pod {} has no port {:?} to forward to",
            proxy_name.name, proxy_name.port
        ))
    })?;
    Ok(SocketAddr::new(of_pod(&object.value)?, port))
}

fn ports_of(pod: &Value) -> impl Iterator<Item = &Value> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers
        .filter_map(|container| container["ports"].as_array())
        .flatten()
}

fn first_port(pod: &Value) -> Option<u16> {
    let port = ports_of(pod)
        .next()
        .and_then(|port| port["containerPort"].as_u64())
        .unwrap_or(80);
    u16::try_from(port).ok()
}

fn named_port(pod: &Value, name: &str) -> Option<u16> {
    let port = ports_of(pod).find(|port| text(port, "/name") == name)?;
    port["containerPort"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
}

fn of_service(
    server: &Server,
    target: &Target,
    service: &Value,
    wanted: &ProxyName<'_>,
) -> Result<SocketAddr, ApiError> {
    let name = wanted.name;
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let found = match wanted.port {
        "" if ports.len() == 1 => ports.first(),
        "" => None,
        wanted => {
            let number = wanted.parse::<u64>().ok();
            ports.iter().find(|port| {
                text(port, "/name") == wanted || (number.is_some() && port["port"].as_u64() == number)
            })
        }
    };
    let port = found.ok_or_else(|| {
        ApiError::unavailable(format!(
            "no service port {:?} found for service {name:?}",
            wanted.port
        ))
    })?;
    let port_name = text(port, "/name");
    let endpoints = server.store.get(kinds::ENDPOINTS, target.namespace(), name);
    let nobody = || ApiError::unavailable(format!("no endpoints available for service {name:?}"));
    let endpoints = endpoints.ok_or_else(nobody)?;
    for subset in endpoints.value["subsets"].as_array().into_iter().flatten() {
        let mut subset_ports = subset["ports"].as_array().into_iter().flatten();
        let number = subset_ports
            .find(|port| text(port, "/name") == port_name)
            .and_then(|port| port["port"].as_u64());
        let number = number.and_then(|number| u16::try_from(number).ok());
        let mut addresses = subset["addresses"].as_array().into_iter().flatten();
        let address = addresses.find_map(|address| text(address, "/ip").parse().ok());
        if let (Some(number), Some(address)) = (number, address) {
            return Ok(SocketAddr::new(address, number));
        }
    }
    Err(nobody())
}

#[cfg(test)]
mod tests {
    use super::parse_proxy_name;

    #[test]
    fn a_proxy_name_may_have_scheme_and_port() {
        let parsed =
            |text| parse_proxy_name(text).map(|parsed| (parsed.name.to_owned(), parsed.port.to_owned()));
        assert_eq!(parsed("a").unwrap(), ("a".to_owned(), String::new()));
        assert_eq!(parsed("a:rest").unwrap(), ("a".to_owned(), "rest".to_owned()));
        assert_eq!(
            parsed("http:a:8081").unwrap(),
            ("a".to_owned(), "8081".to_owned())
        );
        assert!(parsed("https:a:8081").is_err());
    }
}
