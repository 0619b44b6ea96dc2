//! What `wit/` says, as Rust types. Generated at compile time.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "interpreter",
    imports: {
        default: async | trappable,
        "picloud:runtime/logging": trappable,
        "wasi:clocks/wall-clock": trappable,
        "wasi:random/random": trappable,
    },
    exports: { default: async },
});
