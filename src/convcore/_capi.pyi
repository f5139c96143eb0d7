# The C contract, as capsules by the names of convcore.h.
__pyx_capi__: dict[str, object]
