# cython: language_level=3, boundscheck=True, wraparound=False
"""Thin calls into libconvcore: no arithmetic, no loops over data, no policy.

A :class:`Step` is one operation on views; a :class:`Program` is an array of them that one call runs
without the GIL. A view is a tuple ``(buffer, offset, type, shape, ld)``: the index of a buffer in the
sequence that :meth:`Program.run` is given, and the rest in elements. Blocked spatial views have three more:
``ld_block, halo_low, halo_high``. ``csrc/convcore.h`` is the
contract behind every name here.
"""

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBUF_STRIDES, PyBUF_WRITABLE,
    PyObject_GetBuffer, PyBuffer_Release,
)
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, memset, strcmp

import os
import threading
from contextvars import ContextVar
from types import MethodType

from convcore.errors import ArgumentError, DeviceError

# Most buffers of a Call: an arena, an input, an output, and constants, of which there are few.
cdef enum:
    CC_MOST_BOUND = 32

cdef extern from *:
    """
    #ifndef CC_BUILD_COMPILER
    #define CC_BUILD_COMPILER "unknown"
    #endif
    #ifndef CC_BUILD_FLAGS
    #define CC_BUILD_FLAGS "kernels=unknown"
    #endif
    """
    const char *CC_BUILD_COMPILER
    const char *CC_BUILD_FLAGS

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    unsigned long PyThread_get_thread_ident()

OPERATIONS = {
    name: number
    for number, name in enumerate(
        (
            "conv", "depthwise_conv", "conv_transpose", "dense", "max_pool", "average_pool",
            "global_max_pool", "global_average_pool", "affine", "activation", "sample", "softmax",
            "binary", "copy", "fill", "border", "resize", "hu_rescale", "probe", "filter",
        )
    )
}
ACTIVATIONS = {
    name: number
    for number, name in enumerate(
        (
            "linear", "relu", "relu_general", "leaky_relu", "leaky_divide", "elu", "celu", "selu", "gelu",
            "gelu_tanh", "silu", "softplus", "softsign", "sigmoid", "hard_sigmoid", "hard_silu", "tanh",
            "exponential", "mish",
        )
    )
}
BINARIES = {n: i for i, n in enumerate(("add", "subtract", "multiply", "maximum", "minimum", "prelu"))}
SAMPLES = {"rrelu": 0, "noisy_relu": 1}
EDGES = {n: i for i, n in enumerate(("constant", "nearest", "reflect", "mirror", "wrap"))}
PROBES = {"fma": 0, "read": 1, "write": 2, "copy": 3}
ACCURACIES = {"direct": 0, "standard": 1, "fast": 2}
PACKED_VERSION = CC_PACKED_VERSION
TYPES = {"float32": 0, "int8": 1, "uint8": 2, "int16": 3, "uint16": 4, "int32": 5, "float64": 6}
if cc_abi_version() != CC_ABI_VERSION:
    raise ImportError(
        f"convcore._native was built for version {CC_ABI_VERSION} of libconvcore's ABI and found {cc_abi_version()}: "
        "install convcore again"
    )
if len(OPERATIONS) != CC_OPERATION_COUNT:
    raise ImportError("convcore._native and libconvcore disagree about the operations")

cdef unsigned long _main_thread = threading.main_thread().ident

# What a context wants for itself: None, or (name of an instruction set or None, number of threads or None).
_settings = ContextVar("convcore_settings", default=None)


cdef int _check(cc_status status, str where) except -1:
    if status != CC_OK:
        text = cc_status_text(status).decode()
        if status == CC_ERROR_MEMORY:
            raise MemoryError(f"{where}: {text}")
        raise ArgumentError(where, text)
    return 0


cdef cc_isa _isa(str name) except *:
    cdef cc_isa isa
    if name is None:
        if cc_default_isa(&isa) != CC_OK:
            raise DeviceError(
                "CONVCORE_ISA",
                "names no instruction set that this CPU has",
                got=os.environ.get("CONVCORE_ISA"),
                expected=isas(),
            )
        return isa
    if cc_isa_by_name(name.encode(), &isa) != CC_OK or not cc_isa_supported(isa):
        raise DeviceError("isa", "no instruction set that this CPU has", got=name, expected=isas())
    return isa


def isas():
    """Names of the instruction sets that this CPU has, worst first."""
    return tuple(
        cc_isa_name(<cc_isa>i).decode() for i in range(CC_ISA_COUNT) if cc_isa_supported(<cc_isa>i)
    )


def default_isa():
    """Name of the instruction set in use: the best one, or what ``CONVCORE_ISA`` forces."""
    return cc_isa_name(_isa(None)).decode()


def cpu_name():
    """The CPU's own name."""
    return cc_cpu_name().decode()


cdef int _context_threads() except -1:
    settings = _settings.get()
    return 0 if settings is None or settings[1] is None else settings[1]


def settings():
    """What this context wants for itself: (an instruction set or None, a number of threads or None)."""
    found = _settings.get()
    return (None, None) if found is None else found


def enter_settings(isa, threads):
    """Let this context use an instruction set and a number of threads, each None for the process's own.

    Returns a token for :func:`leave_settings`.
    """
    if isa is not None:
        _isa(isa)
    if threads is not None and not 1 <= threads <= 256:
        raise ArgumentError("num_threads", got=threads, expected="1 to 256")
    return _settings.set(None if isa is None and threads is None else (isa, threads))


def leave_settings(token):
    """Return to the settings before :func:`enter_settings`."""
    _settings.reset(token)


def build():
    """How the library was compiled: the compiler, the flags of all kernels, and of each instruction set."""
    flags = {}
    for entry in CC_BUILD_FLAGS.decode().split("|"):
        name, _, value = entry.partition("=")
        flags[f"flags of {name}"] = value.strip()
    return {"compiler": CC_BUILD_COMPILER.decode(), **flags}


def get_num_threads():
    """Threads that a call in this context uses, the caller's own among them."""
    return _context_threads() or cc_get_num_threads()


def num_threads_origin():
    """Where the number of threads of this context comes from: see ``cc_num_threads_origin``."""
    return "num_threads" if _context_threads() else cc_num_threads_origin().decode()


def set_num_threads(int threads):
    """Set the number of threads for all later calls of this process: 1 to 256."""
    if cc_set_num_threads(threads) != CC_OK:
        raise ArgumentError("set_num_threads", got=threads, expected="1 to 256")


cdef int _fill_view(cc_view *view, object spec) except -1:
    buffer, offset, type_, shape, ld, *blocked = spec
    if len(shape) > CC_MAX_RANK or len(shape) != len(ld):
        raise ArgumentError("view", "bad rank", got=len(shape), expected=f"at most {CC_MAX_RANK}")
    view.buffer = buffer
    view.offset = offset
    view.type = TYPES[type_]
    view.rank = len(shape)
    for i in range(len(shape)):
        view.shape[i] = shape[i]
        view.ld[i] = ld[i]
    if blocked:
        view.ld_block, halo_low, halo_high = blocked
        for i in range(3):
            view.halo_low[i] = halo_low[i]
            view.halo_high[i] = halo_high[i]
    return 0


cdef int _fill3(int64_t *to, object values) except -1:
    for i in range(3):
        to[i] = values[i]
    return 0


cdef class _Hold:
    """A buffer of an object, held while C reads it."""
    cdef Py_buffer view

    def __cinit__(self, object owner):
        PyObject_GetBuffer(owner, &self.view, PyBUF_STRIDED_RO)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Step:
    """One operation, checked and with its algorithm chosen. See ``cc_step`` in convcore.h.

    Keyword arguments are the fields of the struct; spatial ones are triples (d, h, w).
    """

    cdef cc_step c
    cdef readonly str operation
    cdef list held
    cdef object weights

    def __init__(
        self, str operation, *, out, x=None, x2=None, str isa=None, kernel=(1, 1, 1), stride=(1, 1, 1),
        dilation=(1, 1, 1), pad_low=(0, 0, 0), groups=1, bint flip=False, bint include_padding=False,
        str binary="add", str sample="rrelu", str probe="fma", bint linear=True, str accuracy="direct", int pool=1,
        float value=0.0, str edge="constant", double edge_value=0.0, seed=0,
        resize_scale=(1.0, 1.0, 1.0), resize_offset=(0.0, 0.0, 0.0), activation=("linear", ()),
        padding_value=None, padding_to=None, slope=None, intercept=None,
    ):
        memset(&self.c, 0, sizeof(cc_step))
        self.operation = operation
        self.held = []
        self.c.operation = OPERATIONS[operation]
        self.c.isa = _isa(isa)
        _fill_view(&self.c.out, out)
        if x is not None:
            _fill_view(&self.c.in_, x)
        if x2 is not None:
            _fill_view(&self.c.in2, x2)
        _fill3(self.c.window.kernel, kernel)
        _fill3(self.c.window.stride, stride)
        _fill3(self.c.window.dilation, dilation)
        _fill3(self.c.window.pad_low, pad_low)
        self.c.groups = groups
        self.c.flip = flip
        self.c.include_padding = include_padding
        self.c.binary = BINARIES[binary]
        self.c.sample = SAMPLES[sample]
        self.c.probe = PROBES[probe]
        self.c.linear = linear
        self.c.accuracy = ACCURACIES[accuracy]
        self.c.pool = pool
        self.c.value = value
        self.c.edge = EDGES[edge]
        self.c.edge_value = edge_value
        self.c.seed = seed
        for i in range(3):
            self.c.resize_scale[i] = resize_scale[i]
            self.c.resize_offset[i] = resize_offset[i]
        kind, parameters = activation
        self.c.activation.kind = ACTIVATIONS[kind]
        for i in range(len(parameters)):
            self.c.activation.parameter[i] = parameters[i]
        if slope is not None:
            self.c.hu.has_padding = padding_value is not None
            self.c.hu.padding_value = padding_value or 0
            self.c.hu.padding_is_hu = padding_to is not None
            self.c.hu.padding_to = padding_to or 0.0
            self.c.hu.slope = <const double *><uintptr_t>self._hold(slope)
            self.c.hu.intercept = <const double *><uintptr_t>self._hold(intercept)
        _check(cc_choose(&self.c), operation)

    cdef uintptr_t _hold(self, object array) except? 0:
        hold = _Hold(array)
        self.held.append(hold)
        return <uintptr_t>hold.view.buf

    @property
    def isa(self):
        return cc_isa_name(<cc_isa>self.c.isa).decode()

    @property
    def algorithm(self):
        return self.c.algorithm.decode()

    @property
    def packed_floats(self):
        return self.c.packed_floats

    @property
    def workspace_bytes(self):
        return self.c.workspace_bytes

    @property
    def need(self):
        """Halo (low, high) along d, h and w of a blocked input that spares a copy of it."""
        return (
            tuple(self.c.need_low[i] for i in range(3)), tuple(self.c.need_high[i] for i in range(3))
        )

    @property
    def flops(self):
        return self.c.flops

    @property
    def bytes(self):
        return self.c.bytes

    def pack(self, weights, bias, packed):
        """Write packed weights into `packed`: C-ordered float32 arrays, `bias` may be None."""
        cdef _Hold w = _Hold(weights), p = _Hold(packed), b = None
        cdef const float *b_data = NULL
        cdef cc_status status
        if bias is not None:
            b = _Hold(bias)
            b_data = <const float *>b.view.buf
        with nogil:
            status = cc_pack(&self.c, <const float *>w.view.buf, b_data, <float *>p.view.buf)
        _check(status, self.operation)

    def pack_file(self, int file, int64_t offset, bias, packed):
        """`pack` for weights in an open file, from byte `offset`; whether all of them are finite.

        Raises OSError if they cannot be read.
        """
        cdef _Hold p = _Hold(packed), b = None
        cdef const float *b_data = NULL
        cdef cc_status status
        cdef int finite = 1
        if bias is not None:
            b = _Hold(bias)
            b_data = <const float *>b.view.buf
        with nogil:
            status = cc_pack_file(&self.c, file, offset, b_data, <float *>p.view.buf, &finite)
        if status == CC_ERROR_FILE:
            raise OSError(cc_status_text(status).decode())
        _check(status, self.operation)
        return bool(finite)

    def set_weights(self, packed):
        """Use packed weights; they are kept alive and never written."""
        hold = _Hold(packed)
        self.weights = hold
        self.c.weights = <const float *>hold.view.buf

    def set_workspace(self, int buffer, int64_t offset):
        """Let the step scribble on `workspace_bytes` bytes from byte `offset` of a buffer."""
        self.c.workspace_buffer = buffer
        self.c.workspace_offset = offset


cdef int _poll(void *argument) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>argument).append(error)
        return 1
    return 0


cdef class Program:
    """Steps that run in order, in one parallel region, without the GIL.

    Safe to run from many threads at once, each with buffers of its own.
    """

    cdef cc_step *c
    cdef Py_ssize_t count
    cdef readonly tuple steps

    def __cinit__(self, steps):
        self.steps = tuple(steps)
        self.count = len(self.steps)
        self.c = <cc_step *>PyMem_Calloc(max(1, len(self.steps)), sizeof(cc_step))
        if self.c == NULL:
            raise MemoryError()
        for i in range(len(self.steps)):
            self.c[i] = (<Step?>self.steps[i]).c

    def __dealloc__(self):
        PyMem_Free(self.c)

    def run(self, buffers, *, int threads=0, list seconds=None):
        """Run on `buffers`, objects with the buffer protocol; a view's ``buffer`` counts in them.

        If `seconds` is a list, one wall time per step is appended to it.
        """
        cdef Py_ssize_t count = len(buffers), n = len(self.steps), held = 0
        cdef Py_buffer *views = <Py_buffer *>PyMem_Calloc(max(1, count), sizeof(Py_buffer))
        cdef void **data = <void **>PyMem_Calloc(max(1, count), sizeof(void *))
        cdef double *times = NULL
        cdef cc_run_options options
        cdef cc_status status
        cdef list raised = []
        memset(&options, 0, sizeof(options))
        options.threads = threads or _context_threads()
        if PyThread_get_thread_ident() == _main_thread: # only there can a signal be handled
            options.poll = _poll
            options.poll_argument = <void *>raised
        try:
            if seconds is not None:
                times = <double *>PyMem_Calloc(max(1, n), sizeof(double))
                options.seconds = times
            if views == NULL or data == NULL or (seconds is not None and times == NULL):
                raise MemoryError()
            for item in buffers:
                PyObject_GetBuffer(item, &views[held], PyBUF_STRIDED_RO)
                data[held] = views[held].buf
                held += 1
            with nogil:
                status = cc_run(self.c, n, data, &options)
            if raised:
                raise raised[0]
            _check(status, "run")
            for i in range(n if seconds is not None else 0):
                seconds.append(times[i])
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
            PyMem_Free(views)
            PyMem_Free(data)
            PyMem_Free(times)


cdef class Call:
    """A program bound to the shape of its one input and one output: the shortest way into the library.

    Buffers are, in order, an arena (one of `arenas`, or a new one of `allocate`), `constants`, the input
    and the output, which `empty` makes. Safe to call from many threads at once.
    """

    cdef Program program
    cdef tuple shape
    cdef Py_ssize_t rank
    cdef Py_ssize_t sizes[CC_MAX_RANK + 1]
    cdef object allocate, empty
    cdef list arenas, held
    cdef Py_ssize_t constants
    cdef void *data[CC_MOST_BOUND]

    def __init__(self, Program program, constants, tuple shape, *, list arenas, allocate, empty):
        self.program = program
        self.shape = shape
        self.rank = len(shape)
        if self.rank > CC_MAX_RANK + 1 or len(constants) + 3 > CC_MOST_BOUND:
            raise ArgumentError("Call", "too many axes or constants")
        for i in range(self.rank):
            self.sizes[i] = shape[i]
        self.arenas = arenas
        self.allocate = allocate
        self.empty = empty
        self.held = [_Hold(c) for c in constants]
        self.constants = len(constants)
        for i in range(self.constants):
            self.data[1 + i] = (<_Hold>self.held[i]).view.buf

    def __call__(self, x):
        """Return the output for `x`, or None if that is no C-ordered float32 array of the bound shape."""
        cdef void *data[CC_MOST_BOUND]
        cdef Py_buffer views[3] # input, arena, output
        cdef int held = 0, fits
        cdef cc_run_options options
        cdef cc_status status
        cdef list raised
        cdef Py_ssize_t i
        try:
            PyObject_GetBuffer(x, &views[0], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, ValueError):
            return None
        held = 1
        arena = None
        try:
            fits = views[0].ndim == self.rank and views[0].format != NULL and strcmp(views[0].format, b"f") == 0
            if fits:
                for i in range(self.rank):
                    fits = fits and views[0].shape[i] == self.sizes[i]
            if not fits:
                return None
            try:
                arena = self.arenas.pop()
            except IndexError:
                arena = self.allocate()
            y = self.empty()
            PyObject_GetBuffer(arena, &views[1], PyBUF_STRIDED_RO)
            held = 2
            PyObject_GetBuffer(y, &views[2], PyBUF_STRIDED_RO)
            held = 3
            for i in range(1, 1 + self.constants):
                data[i] = self.data[i]
            data[0] = views[1].buf
            data[1 + self.constants] = views[0].buf
            data[2 + self.constants] = views[2].buf
            memset(&options, 0, sizeof(options))
            options.threads = _context_threads()
            raised = []
            if PyThread_get_thread_ident() == _main_thread:
                options.poll = _poll
                options.poll_argument = <void *>raised
            with nogil:
                status = cc_run(self.program.c, self.program.count, data, &options)
            if raised:
                raise raised[0]
            _check(status, "run")
            return y
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
            if arena is not None:
                self.arenas.append(arena)


include "_replay.pxi"
