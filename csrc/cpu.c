/* What this CPU has, and which instruction set the process uses. */
#include "cpu.h"
#include "convcore.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* The operating system must save the registers too: XCR0 says which it does. */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static int ask_cpu(cc_isa isa)
{
    enum { XMM_YMM = 0x6, ZMM = 0xe6 };
    uint32_t a, b, c, d;
    if (isa == CC_ISA_SCALAR || isa == CC_ISA_SSE2)
        return 1; /* part of x86-64 */
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    if (!(c & bit_OSXSAVE) || !(c & bit_FMA) || (saved_state() & XMM_YMM) != XMM_YMM)
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2))
        return 0;
    if (isa == CC_ISA_AVX2)
        return 1;
    const uint32_t wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    return (b & wanted) == wanted && (saved_state() & ZMM) == ZMM;
}
#else
static int ask_cpu(cc_isa isa) { return isa == CC_ISA_SCALAR; }
#endif

/* Asked once: under a hypervisor every cpuid is a trap of tens of microseconds. */
static int has[CC_ISA_COUNT];
static pthread_once_t has_once = PTHREAD_ONCE_INIT;

static void ask_for_each(void)
{
    for (int i = 0; i < CC_ISA_COUNT; i++)
        has[i] = ask_cpu((cc_isa)i);
}

static int cpu_has(cc_isa isa)
{
    pthread_once(&has_once, ask_for_each);
    return has[isa];
}

static const char *const names[CC_ISA_COUNT] = {"scalar", "sse2", "avx2", "avx512"};

int cc_isa_supported(cc_isa isa) { return isa >= 0 && isa < CC_ISA_COUNT && cpu_has(isa); }

const char *cc_isa_name(cc_isa isa) { return isa >= 0 && isa < CC_ISA_COUNT ? names[isa] : "unknown"; }

cc_status cc_isa_by_name(const char *name, cc_isa *isa)
{
    for (int i = 0; i < CC_ISA_COUNT; i++)
        if (strcmp(name, names[i]) == 0) {
            *isa = (cc_isa)i;
            return CC_OK;
        }
    return CC_ERROR_ARGUMENT;
}

static cc_isa chosen;
static cc_status chosen_status;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose_isa(void)
{
    const char *forced = getenv("CONVCORE_ISA");
    if (forced && *forced) {
        chosen_status = cc_isa_by_name(forced, &chosen);
        if (chosen_status == CC_OK && !cpu_has(chosen))
            chosen_status = CC_ERROR_ISA;
        return;
    }
    for (int i = CC_ISA_COUNT - 1; i >= 0; i--)
        if (cpu_has((cc_isa)i)) {
            chosen = (cc_isa)i;
            return;
        }
}

cc_status cc_default_isa(cc_isa *isa)
{
    pthread_once(&once, choose_isa);
    *isa = chosen;
    return chosen_status;
}

static char cpu_name[49];
static pthread_once_t cpu_name_once = PTHREAD_ONCE_INIT;

static void ask_name(void)
{
#if defined(__x86_64__)
    uint32_t words[12];
    strcpy(cpu_name, "x86-64");
    for (uint32_t leaf = 0; leaf < 3; leaf++)
        if (!__get_cpuid(0x80000002u + leaf, &words[4 * leaf], &words[4 * leaf + 1], &words[4 * leaf + 2],
                         &words[4 * leaf + 3]))
            return;
    if (words[0])
        memcpy(cpu_name, words, sizeof words);
#else
    strcpy(cpu_name, "unknown");
#endif
}

const char *cc_cpu_name(void)
{
    pthread_once(&cpu_name_once, ask_name);
    return cpu_name;
}

/* sysconf would give the sum over a socket, of which one core sees only its own part. */
static int64_t ask_cache(void)
{
    int64_t largest = 0;
#if defined(__x86_64__)
    enum { INTEL = 4 };
    const uint32_t amd = 0x8000001du;
    uint32_t a, b, c, d;
    /* AMD's leaf describes caches in the form of Intel's, which AMD's own CPUs leave empty. */
    const int is_amd = __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c >> 22 & 1);
    for (uint32_t i = 0; i < 16 && __get_cpuid_count(is_amd ? amd : INTEL, i, &a, &b, &c, &d) && (a & 31) != 0; i++) {
        const int64_t ways = (b >> 22) + 1, parts = (b >> 12 & 1023) + 1, line = (b & 4095) + 1;
        const int64_t bytes = ways * parts * line * ((int64_t)c + 1);
        largest = bytes > largest ? bytes : largest;
    }
#endif
    const int64_t usual = 32 << 20;
    return largest > 0 ? largest : usual;
}

static int64_t cache_bytes;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;
static void ask_cache_once(void) { cache_bytes = ask_cache(); }

int64_t cc_last_level_cache(void)
{
    pthread_once(&cache_once, ask_cache_once);
    return cache_bytes;
}

int cc_abi_version(void) { return CC_ABI_VERSION; }

const char *cc_status_text(cc_status status)
{
    switch (status) {
    case CC_OK: return "ok";
    case CC_ERROR_ARGUMENT: return "an argument has a value that the operation is not defined for";
    case CC_ERROR_SHAPE: return "shapes do not fit together";
    case CC_ERROR_TYPE: return "element type not taken by this operation";
    case CC_ERROR_MEMORY: return "out of memory";
    case CC_ERROR_ISA: return "this CPU lacks the instruction set asked for";
    case CC_ERROR_CANCELLED: return "cancelled";
    case CC_ERROR_FILE: return "weights could not be read from their file";
    }
    return "unknown status";
}
