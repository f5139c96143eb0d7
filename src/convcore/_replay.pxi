# Part of _native.pyx: calls that are replayed.
#
# Checking arguments, working out shapes and choosing an algorithm take tens of microseconds, and come to the same
# result whenever the arguments have the same shapes, strides and options. So the first call of a kind is recorded:
# which steps ran, and which of their buffers were the caller's arrays, the result, or memory to scribble on. Later
# calls of that kind go from the arguments to the library by one look-up. Whatever is not recognised exactly (other
# types, arrays that overlap, odd addresses, read-only results) takes the checked way, which also makes the errors.
#
# A kind is a row of 64-bit words: for an array its type, shape and strides; for an option its type and value.

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **to, size_t alignment, size_t bytes)
    void free(void *memory)

cdef extern from "Python.h":
    # As in cpython.buffer, but a failure is no exception here: it is the checked way's business.
    int _get_buffer "PyObject_GetBuffer"(object owner, Py_buffer *view, int flags) noexcept
    void PyErr_Clear()
    int64_t _as_int64 "PyLong_AsLongLong"(object value) noexcept
    PyObject *PyErr_Occurred()

cdef enum:
    _MOST_WORDS = 192
    _MOST_ARRAYS = 8
    _MOST_TEXTS = 12
    _MOST_PACKS = 4
    _WAYS = 4
    _SETS = 16
    _LINE = 64
    # Sources of a buffer that are no argument.
    _RESULT = -1
    _SCRATCH = -2
    # Scratch memory up to this size is kept between calls, once for each thread that ran at the same time, up to
    # four: 64 kinds of call keep 4 MiB of it at most, four threads at once 16.
    _MOST_KEPT = 65536
    _MOST_IDLE = 4

# Work below this is done before another thread could take the GIL and give it back.
cdef double _TINY_SECONDS = 5e-6
cdef int64_t _TINY_PACKED = 1 << 13

# Kinds of word.
cdef enum:
    _NONE = 1
    _BOOL = 2
    _INT = 3
    _FLOAT = 4
    _TEXT = 5
    _SEQUENCE = 6
    _TYPE = 7
    _ARRAY = 8
    _IN_PLACE = 9
    _ISA = 10

ctypedef struct _Array:
    char *data
    int64_t low, high # bytes from `data` that its elements lie between
    int first, words  # where the key has its type, shape and strides

ctypedef struct _Key:
    int64_t words[_MOST_WORDS]
    int count
    uint64_t hash
    _Array arrays[_MOST_ARRAYS]
    Py_buffer views[_MOST_ARRAYS]
    int held
    int out           # which array is the result, or -1
    PyObject *texts[_MOST_TEXTS] # and types: borrowed from the arguments
    int text_count

ctypedef struct _Pack:
    int step, weights, bias # index of the step; of arrays among the arguments, bias -1: none
    int64_t weights_offset, bias_offset, packed_offset

# Memory of one call that others must not use meanwhile.
ctypedef struct _Frame:
    _Frame *next
    cc_step *steps    # own ones, if their weights are in the frame
    char *scratch
    PyObject *owner   # of scratch that is too large for the frame


cdef inline int _word(_Key *key, int64_t value) noexcept:
    if key.count >= _MOST_WORDS:
        return 0
    key.words[key.count] = value
    key.count += 1
    return 1


cdef int _add_option(_Key *key, object value, int depth) noexcept:
    """Put an option into the key; 0 if it is of a type that only the checked way knows."""
    cdef int64_t number
    cdef double real
    cdef Py_ssize_t i, n
    if value is None:
        return _word(key, _NONE)
    if value is True or value is False:
        return _word(key, _BOOL | ((value is True) << 8))
    kind = type(value)
    if kind is int:
        number = _as_int64(value)
        if number == -1 and PyErr_Occurred() != NULL:
            PyErr_Clear()
            return 0
        return _word(key, _INT) and _word(key, number)
    if kind is float:
        real = <double>value
        memcpy(&number, &real, sizeof(number)) # its bits: 0.0 and -0.0 may mean different things
        return _word(key, _FLOAT) and _word(key, number)
    if kind is str or kind is type:
        if key.text_count == _MOST_TEXTS:
            return 0
        key.texts[key.text_count] = <PyObject *>value
        key.text_count += 1
        return _word(key, _TEXT if kind is str else _TYPE) and _word(key, <int64_t>hash(value))
    if depth < 3 and (kind is tuple or kind is list): # the checked way makes no difference between them
        n = len(value)
        if not _word(key, _SEQUENCE | (n << 8)):
            return 0
        for i in range(n):
            if not _add_option(key, value[i], depth + 1):
                return 0
        return 1
    return 0


cdef int _add_array(_Key *key, object value, bint out) noexcept:
    """Put an array into the key and hold its buffer; 0 if the kernels cannot use its memory as it is."""
    cdef Py_buffer *view
    cdef _Array *a
    cdef int64_t reach
    cdef int i
    if key.held == _MOST_ARRAYS:
        return 0
    view = &key.views[key.held]
    if _get_buffer(value, view, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if out else 0)) != 0:
        PyErr_Clear()
        return 0
    a = &key.arrays[key.held]
    if out:
        key.out = key.held
    key.held += 1
    a.data = <char *>view.buf
    a.low, a.high = 0, view.itemsize
    a.first = key.count
    # A type in this machine's byte order is one letter.
    if view.format == NULL or view.format[0] == 0 or view.format[1] != 0 or <uintptr_t>a.data % view.itemsize:
        return 0
    if not _word(key, _ARRAY | (view.ndim << 8) | (<int64_t>view.format[0] << 16)):
        return 0
    for i in range(view.ndim):
        if view.shape[i] == 0 or not _word(key, view.shape[i]) or not _word(key, view.strides[i]):
            return 0
        reach = (view.shape[i] - 1) * view.strides[i]
        if reach < 0:
            a.low += reach
        else:
            a.high += reach
    a.words = key.count - a.first
    return 1


cdef inline bint _meet(const _Array *a, const _Array *b) noexcept:
    return a.data + a.low < b.data + b.high and b.data + b.low < a.data + a.high


cdef int _finish_key(_Key *key) noexcept:
    """Note whether the result is written over an argument, and hash; 0 if they overlap in another way."""
    cdef int i, over = -1
    cdef uint64_t h = 14695981039346656037u
    cdef _Array *a
    cdef _Array *out
    if key.out >= 0:
        out = &key.arrays[key.out]
        for i in range(key.held):
            a = &key.arrays[i]
            if i == key.out or not _meet(a, out):
                continue
            if over >= 0 or a.data != out.data or a.words != out.words or memcmp(
                    &key.words[a.first], &key.words[out.first], a.words * sizeof(int64_t)) != 0:
                return 0
            over = i
    if over >= 0 and not _word(key, _IN_PLACE | (over << 8)):
        return 0
    for i in range(key.count):
        h = (h ^ <uint64_t>key.words[i]) * 1099511628211u
        h ^= h >> 29
    key.hash = h
    return 1


cdef void _let_go(_Key *key) noexcept:
    cdef int i
    for i in range(key.held):
        PyBuffer_Release(&key.views[i])


cdef class _Replay:
    """One kind of call: its key, and the program with what each buffer is. No program: take the checked way."""

    cdef int64_t *words
    cdef int count
    cdef uint64_t hash
    cdef tuple texts
    cdef Program program
    cdef int buffers, packs
    cdef int source[CC_MOST_BOUND]
    cdef int64_t offset[CC_MOST_BOUND]
    cdef _Pack pack[_MOST_PACKS]
    cdef int64_t scratch_bytes
    cdef object empty, allocate
    cdef bint keep, tiny
    cdef int64_t age
    cdef _Frame *idle
    cdef int idle_count

    def __dealloc__(self):
        cdef _Frame *frame
        while self.idle != NULL:
            frame = self.idle
            self.idle = frame.next
            _free_frame(frame)
        PyMem_Free(self.words)

    cdef int set_key(self, const _Key *key) except -1:
        self.words = <int64_t *>PyMem_Calloc(max(1, key.count), sizeof(int64_t))
        if self.words == NULL:
            raise MemoryError()
        memcpy(self.words, key.words, key.count * sizeof(int64_t))
        self.count = key.count
        self.hash = key.hash
        self.texts = tuple([<object>key.texts[i] for i in range(key.text_count)])
        return 0

    cdef bint matches(self, const _Key *key) except -1:
        cdef int i
        if self.hash != key.hash or self.count != key.count:
            return False
        if memcmp(self.words, key.words, self.count * sizeof(int64_t)) != 0:
            return False
        for i in range(key.text_count): # equal hashes are no proof
            known = self.texts[i]
            if <PyObject *>known != key.texts[i] and known != <object>key.texts[i]:
                return False
        return True

    cdef int place(self, object array, const _Key *key, object result, int *source, int64_t *offset) except -1:
        """Say in which argument, or the result, the memory of `array` lies; 0 if in none."""
        cdef _Hold hold = _Hold(array), whole
        cdef const char *data = <const char *>hold.view.buf
        cdef int i
        for i in range(key.held):
            if key.arrays[i].data + key.arrays[i].low <= data < key.arrays[i].data + key.arrays[i].high:
                source[0], offset[0] = i, data - key.arrays[i].data
                return 1
        if result is not None:
            whole = _Hold(result)
            if <const char *>whole.view.buf <= data < <const char *>whole.view.buf + whole.view.len:
                source[0], offset[0] = _RESULT, data - <const char *>whole.view.buf
                return 1
        return 0

    cdef int set_program(self, const _Key *key, object recorded) except -1:
        """Take over what was recorded (see ops/replay.py); 0 if a buffer is none of the caller's."""
        cdef Program program = recorded.program
        cdef int i, first, written = 0
        cdef double seconds = 0
        cdef int64_t packed = 0
        cdef _Pack *p
        result = None if key.out >= 0 else recorded.result
        if len(recorded.buffers) > CC_MOST_BOUND or len(recorded.packs) > _MOST_PACKS:
            return 0
        self.buffers = len(recorded.buffers)
        for i in range(self.buffers):
            if i in recorded.scratch:
                self.source[i] = _SCRATCH
                first = recorded.scratch[i]
                if first < i:
                    self.offset[i] = self.offset[first]
                    continue
                self.offset[i] = self.scratch_bytes
                self.scratch_bytes += (recorded.buffers[i].nbytes + _LINE - 1) // _LINE * _LINE
            elif not self.place(recorded.buffers[i], key, result, &self.source[i], &self.offset[i]):
                return 0
            written += self.source[i] == (_RESULT if result is not None else key.out)
        # Otherwise the result came about in another way, that no program knows of.
        if not written and not self.in_place(key):
            return 0
        for number, weights, bias in recorded.packs:
            p = &self.pack[self.packs]
            p.step, p.bias = number, -1
            if not self.place(weights, key, None, &p.weights, &p.weights_offset):
                return 0
            if bias is not None and not self.place(bias, key, None, &p.bias, &p.bias_offset):
                return 0
            p.packed_offset = self.scratch_bytes
            packed += program.c[p.step].packed_floats
            self.scratch_bytes += (program.c[p.step].packed_floats * 4 + _LINE - 1) // _LINE * _LINE
            (<Step>program.steps[p.step]).weights = None # every call packs its own
            self.packs += 1
        for i in range(program.count):
            seconds += program.c[i].flops / 50e9 + program.c[i].bytes / 60e9
        self.tiny = seconds < _TINY_SECONDS and packed <= _TINY_PACKED
        self.empty = recorded.empty if key.out < 0 else None
        self.allocate = recorded.allocate
        self.keep = recorded.keep
        self.program = program
        return 1

    cdef bint in_place(self, const _Key *key) noexcept:
        cdef int i
        if key.out < 0:
            return False
        for i in range(self.buffers):
            if self.source[i] >= 0 and key.arrays[self.source[i]].data == key.arrays[key.out].data:
                return True
        return False

    cdef _Frame *take(self) except NULL:
        cdef _Frame *frame
        cdef int i
        cdef size_t head, own, small
        cdef void *memory = NULL
        cdef Py_buffer view
        with cython.critical_section(self): # for a Python without the GIL; nothing otherwise
            frame = self.idle
            if frame != NULL:
                self.idle = frame.next
                self.idle_count -= 1
        if frame != NULL:
            return frame
        head = _LINE
        own = (self.program.count * sizeof(cc_step) + _LINE - 1) // _LINE * _LINE if self.packs else 0
        small = self.scratch_bytes if self.scratch_bytes <= _MOST_KEPT else 0
        if posix_memalign(&memory, _LINE, head + own + small) != 0:
            raise MemoryError()
        frame = <_Frame *>memory
        frame.next = NULL
        frame.owner = NULL
        frame.steps = self.program.c
        frame.scratch = <char *>memory + head + own
        if self.scratch_bytes > _MOST_KEPT:
            try:
                owner = self.allocate((self.scratch_bytes + 3) // 4)
                PyObject_GetBuffer(owner, &view, PyBUF_STRIDED_RO)
            except BaseException:
                free(memory)
                raise
            frame.scratch = <char *>view.buf
            PyBuffer_Release(&view)
            Py_INCREF(owner)
            frame.owner = <PyObject *>owner
        if self.packs:
            frame.steps = <cc_step *>(<char *>memory + head)
            memcpy(frame.steps, self.program.c, self.program.count * sizeof(cc_step))
            for i in range(self.packs):
                frame.steps[self.pack[i].step].weights = <float *>(frame.scratch + self.pack[i].packed_offset)
        return frame

    cdef void give_back(self, _Frame *frame) noexcept:
        cdef bint kept = False
        with cython.critical_section(self):
            if self.idle_count < (_MOST_IDLE if frame.owner == NULL else <int>self.keep):
                frame.next = self.idle
                self.idle = frame
                self.idle_count += 1
                kept = True
        if not kept:
            _free_frame(frame)

    cdef cc_status work(self, const _Key *key, const _Frame *frame, void **data, const cc_run_options *options) noexcept nogil:
        cdef cc_status status
        cdef const _Pack *p
        cdef int i
        for i in range(self.packs):
            p = &self.pack[i]
            status = cc_pack(
                &frame.steps[p.step], <const float *>(key.arrays[p.weights].data + p.weights_offset),
                <const float *>(key.arrays[p.bias].data + p.bias_offset) if p.bias >= 0 else NULL,
                <float *>(frame.scratch + p.packed_offset))
            if status != CC_OK:
                return status
        return cc_run(frame.steps, self.program.count, data, options)

    cdef object run(self, const _Key *key, object out, int threads):
        """Run on the arrays of `key`; `out`, the caller's, is returned, or a new array."""
        cdef void *data[CC_MOST_BOUND]
        cdef char *base
        cdef Py_buffer made
        cdef bint fresh = False
        cdef _Frame *frame = NULL
        cdef _Frame plain
        cdef cc_run_options options
        cdef cc_status status
        cdef list raised = None
        cdef int i
        try:
            if self.empty is not None:
                out = self.empty()
                PyObject_GetBuffer(out, &made, PyBUF_WRITABLE)
                fresh = True
            if self.scratch_bytes:
                frame = self.take()
            else:
                plain.steps = self.program.c
                plain.scratch = NULL
            for i in range(self.buffers):
                if self.source[i] >= 0:
                    base = key.arrays[self.source[i]].data
                elif self.source[i] == _RESULT:
                    base = <char *>made.buf
                else:
                    base = frame.scratch
                data[i] = base + self.offset[i]
            memset(&options, 0, sizeof(options))
            options.threads = threads
            if self.tiny:
                status = self.work(key, frame if frame != NULL else &plain, data, &options)
            else:
                if PyThread_get_thread_ident() == _main_thread:
                    raised = []
                    options.poll = _poll
                    options.poll_argument = <void *>raised
                with nogil:
                    status = self.work(key, frame if frame != NULL else &plain, data, &options)
                if raised:
                    raise raised[0]
            if status != CC_OK:
                _check(status, "run")
            return out
        finally:
            if frame != NULL:
                self.give_back(frame)
            if fresh:
                PyBuffer_Release(&made)


cdef void _free_frame(_Frame *frame) noexcept:
    if frame.owner != NULL:
        Py_DECREF(<object>frame.owner)
    free(frame)


cdef class Replayer:
    """The kinds of call that one function, or one prepared kernel, has seen: the last few of them."""

    cdef object array_type
    cdef list slots
    cdef int64_t turn, age
    cdef object read_settings
    cdef object __weakref__

    def __init__(self, object array_type):
        self.array_type = array_type
        self.slots = [None] * (_SETS * _WAYS)
        self.read_settings = _settings.get

    cdef inline int add(self, _Key *key, int index, object value, bint array, bint out) noexcept:
        if not _word(key, index):
            return 0
        if array and type(value) is self.array_type:
            return _add_array(key, value, out)
        return _add_option(key, value, 0)

    cdef int add_settings(self, _Key *key, int *threads) except -1:
        """Put what the context says about instruction set and threads where it belongs."""
        settings = self.read_settings()
        if settings is None:
            return 1
        isa, context_threads = settings
        if threads[0] == 0 and context_threads is not None:
            threads[0] = context_threads
        return isa is None or (_word(key, _ISA) and _add_option(key, isa, 0))

    cdef _Replay find(self, const _Key *key):
        cdef int way, first = <int>(key.hash % _SETS) * _WAYS
        cdef _Replay replay
        for way in range(_WAYS):
            replay = self.slots[first + way]
            if replay is not None and replay.matches(key):
                return replay
        return None

    cdef int remember(self, const _Key *key, object recorded) except -1:
        """Keep a kind of call, with what was recorded of it, or None if that cannot be replayed."""
        cdef int i, j, first = <int>(key.hash % _SETS) * _WAYS
        cdef _Replay replay = _Replay.__new__(_Replay)
        for i in range(key.held):
            for j in range(i):
                # Whose memory a buffer lies in cannot be told: this call, not its kind, is to blame.
                if i != key.out and j != key.out and _meet(&key.arrays[i], &key.arrays[j]):
                    return 0
        replay.set_key(key)
        replay.age = self.age
        self.age += 1
        if recorded is not None and not replay.set_program(key, recorded):
            replay.program = None
        for i in range(_WAYS):
            if self.slots[first + i] is None:
                self.slots[first + i] = replay
                return 0
        self.slots[first + self.turn % _WAYS] = replay
        self.turn += 1
        return 0

    @property
    def remembered(self):
        """How many kinds of call can be replayed, and how many are known to need the checked way."""
        known = [<_Replay>r for r in self.slots if r is not None]
        replayed = sum([(<_Replay>r).program is not None for r in known])
        return replayed, len(known) - replayed

    def forget(self):
        """Forget all calls, and free the memory that was kept for them."""
        self.slots = [None] * (_SETS * _WAYS)


cdef inline int _threads_of(object value) noexcept:
    """The argument ``num_threads``: 0 for None, -1 for what the checked way has to refuse."""
    cdef int64_t n
    if value is None:
        return 0
    if type(value) is not int:
        return -1
    n = _as_int64(value)
    if n == -1 and PyErr_Occurred() != NULL:
        PyErr_Clear()
    return <int>n if 1 <= n <= 256 else -1


cdef class Recorded(Replayer):
    # A function on arrays whose calls are replayed. To Python it is a function: it has a name, a signature and a
    # docstring (which one of the class would hide), can be pickled, and becomes a method in a class.
    #
    # `names` are the function's parameters in order, `arrays` those that take arrays. record(function, args, kwargs)
    # takes the checked way and returns the result and what it recorded, or None.

    cdef dict index
    cdef object function, record, dictionary
    cdef int64_t arrays # a bit for each parameter
    cdef int positional, out, num_threads

    def __init__(self, object function, tuple names, int positional, arrays, *, object array_type, object record):
        Replayer.__init__(self, array_type)
        self.function = function
        self.record = record
        self.positional = positional
        self.index = {name: i for i, name in enumerate(names)}
        self.arrays = 0
        for name in arrays:
            self.arrays |= <int64_t>1 << <int>self.index[name]
        self.out = self.index.get("out", -1)
        self.num_threads = self.index.get("num_threads", -1)
        self.dictionary = {}
        for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__defaults__",
                     "__kwdefaults__"):
            self.dictionary[name] = getattr(function, name)

    @property
    def __wrapped__(self):
        return self.function

    def __getattr__(self, name):
        try:
            return self.dictionary[name]
        except KeyError:
            raise AttributeError(f"{self!r} has no attribute {name!r}") from None

    @property
    def __doc__(self):
        return self.dictionary["__doc__"]

    @property
    def __module__(self):
        return self.dictionary["__module__"]

    def __repr__(self):
        return f"<function {self.dictionary['__qualname__']} of convcore>"

    def __reduce__(self):
        return self.dictionary["__qualname__"]

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args, **kwargs):
        cdef _Key key
        cdef _Replay replay = None
        cdef int i, ok = 1, threads = 0
        cdef object out = None, result
        key.count = key.held = key.text_count = 0
        key.out = -1
        try:
            for i in range(len(args)):
                if i >= self.positional or not self.add(&key, i, args[i], (self.arrays >> i) & 1, False):
                    ok = 0
                    break
            if ok and kwargs:
                for name, value in kwargs.items():
                    at = self.index.get(name)
                    if at is None:
                        ok = 0
                        break
                    i = at
                    if i == self.num_threads:
                        threads = _threads_of(value)
                        ok = threads >= 0
                    else:
                        if i == self.out:
                            out = value
                        ok = self.add(&key, i, value, (self.arrays >> i) & 1, i == self.out)
                    if not ok:
                        break
            # An out that is neither an array of NumPy's nor None has no place in a key.
            ok = ok and (out is None or key.out >= 0) and self.add_settings(&key, &threads) and _finish_key(&key)
            if ok:
                replay = self.find(&key)
                if replay is not None and replay.program is not None:
                    try:
                        return replay.run(&key, out, threads)
                    except MemoryError:
                        pass # the checked way says for what there is none
            result, recorded = self.record(self.function, args, kwargs)
            if ok and replay is None:
                self.remember(&key, recorded)
            return result
        finally:
            _let_go(&key)


cdef class Prepared(Replayer):
    """A function of one array with all else fixed: ``checked(x, out, num_threads)`` takes the checked way, as
    `record` of :class:`Recorded` does. ``adapt(x, out)`` makes arrays of what the kernels cannot use as it is.
    Steps hold their packed weights. `threads` are those of a call that does not say otherwise, or 0.
    """

    cdef object checked, adapt
    cdef int threads

    def __init__(self, *, object array_type, object checked, object adapt, int threads):
        Replayer.__init__(self, array_type)
        self.checked = checked
        self.adapt = adapt
        self.threads = threads

    def __call__(self, x, out=None, *, num_threads=None):
        cdef _Key key
        cdef _Replay replay = None
        cdef int ok, threads = _threads_of(num_threads)
        key.count = key.held = key.text_count = 0
        key.out = -1
        try:
            ok = threads >= 0 and type(x) is self.array_type and _add_array(&key, x, False)
            if ok and out is not None:
                ok = type(out) is self.array_type and _add_array(&key, out, True)
            if threads == 0:
                threads = self.threads
            ok = ok and self.add_settings(&key, &threads) and _finish_key(&key)
            if ok:
                replay = self.find(&key)
                if replay is not None and replay.program is not None:
                    try:
                        return replay.run(&key, out, threads)
                    except MemoryError:
                        pass # the checked way says for what there is none
            adapted, target = self.adapt(x, out)
            if adapted is not x or target is not out:
                result = self(adapted, target, num_threads=num_threads)
                return result if out is None else out
            result, recorded = self.checked(x, out, num_threads if num_threads is not None else self.threads or None)
            if ok and replay is None:
                self.remember(&key, recorded)
            return result
        finally:
            _let_go(&key)

    def programs(self):
        """(Shape of the input, program) of the calls that can be replayed, the oldest first."""
        cdef _Replay r
        known = []
        for slot in self.slots:
            r = slot
            if r is not None and r.program is not None:
                shape = tuple([r.words[1 + 2 * axis] for axis in range((r.words[0] >> 8) & 255)])
                known.append((r.age, shape, r.program))
        return [(shape, program) for _, shape, program in sorted(known, key=lambda k: k[0])]
