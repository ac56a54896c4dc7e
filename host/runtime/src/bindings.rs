//! What `wit/` becomes in Rust: one set of types for all kinds.
//!
//! The world `host` exists only here. It imports everything that some kind may import and exports what every
//! kind exports, so that shared types are generated once; each export is looked up on its own.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package shoal:host;
        world host {
            import shoal:plugin/log@0.1.0;
            import shoal:plugin/net@0.1.0;
            import shoal:plugin/mail@0.1.0;
            import shoal:plugin/kv@0.1.0;
            import shoal:plugin/secrets@0.1.0;
            import shoal:plugin/ingest@0.1.0;
            export shoal:plugin/receiver@0.1.0;
            export shoal:plugin/check@0.1.0;
            export shoal:plugin/channel@0.1.0;
            export shoal:plugin/billing-rule@0.1.0;
            export shoal:plugin/settings@0.1.0;
        }
    ",
    world: "shoal:host/host",
    with: {
        "shoal:plugin/net@0.1.0.connection": crate::egress::connection::Connection,
    },
    imports: {
        "shoal:plugin/net@0.1.0.tls-handshake": async,
        "shoal:plugin/net@0.1.0.tcp-connect": async | trappable,
        "shoal:plugin/net@0.1.0.tls-connect": async | trappable,
        "shoal:plugin/net@0.1.0.dns-query": async,
        "shoal:plugin/net@0.1.0.icmp-echo": async,
        "shoal:plugin/net@0.1.0.[method]connection.address": trappable,
        "shoal:plugin/net@0.1.0.[method]connection.write": async | trappable,
        "shoal:plugin/net@0.1.0.[method]connection.read": async | trappable,
        "shoal:plugin/net@0.1.0.[method]connection.start-tls": async | trappable,
        "shoal:plugin/net@0.1.0.[drop]connection": trappable,
        "shoal:plugin/ingest@0.1.0.write-metrics": async,
        "shoal:plugin/mail@0.1.0.send": async,
        "shoal:plugin/kv@0.1.0.get": async,
        "shoal:plugin/kv@0.1.0.set": async,
        "shoal:plugin/kv@0.1.0.swap": async,
        "shoal:plugin/kv@0.1.0.delete": async,
        "shoal:plugin/kv@0.1.0.keys": async,
    },
    exports: { default: async },
    require_store_data_send: true,
});
