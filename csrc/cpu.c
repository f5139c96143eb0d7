/* What this CPU has, and which instruction set the process uses. */
#include "cpu.h"
#include "convcore.h"

#include <pthread.h>
#include <stdio.h>
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
    return isa == CC_ISA_AVX512 && (b & wanted) == wanted && (saved_state() & ZMM) == ZMM;
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif
static int ask_cpu(cc_isa isa) { return isa == CC_ISA_SCALAR || isa == CC_ISA_NEON; }
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

static const char *const names[CC_ISA_COUNT] = {"scalar", "sse2", "avx2", "avx512", "neon"};

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

#if defined(__aarch64__) && defined(__linux__)
/* ARM's processors have numbers (MIDR_EL1: implementer, part), not names; these are the ones that servers, boards
 * and laptops have. Linux lets programs read the register, and says so in this bit of AT_HWCAP. */
static void name_aarch64(void)
{
    enum { HWCAP_READS_ID = 1 << 11 };
    static const struct {
        unsigned implementer, part;
        const char *name;
    } known[] = {
        {0x41, 0xd03, "Cortex-A53"},    {0x41, 0xd05, "Cortex-A55"},    {0x41, 0xd07, "Cortex-A57"},
        {0x41, 0xd08, "Cortex-A72"},    {0x41, 0xd09, "Cortex-A73"},    {0x41, 0xd0a, "Cortex-A75"},
        {0x41, 0xd0b, "Cortex-A76"},    {0x41, 0xd0c, "Neoverse N1"},   {0x41, 0xd0d, "Cortex-A77"},
        {0x41, 0xd40, "Neoverse V1"},   {0x41, 0xd41, "Cortex-A78"},    {0x41, 0xd44, "Cortex-X1"},
        {0x41, 0xd46, "Cortex-A510"},   {0x41, 0xd47, "Cortex-A710"},   {0x41, 0xd48, "Cortex-X2"},
        {0x41, 0xd49, "Neoverse N2"},   {0x41, 0xd4f, "Neoverse V2"},   {0x41, 0xd84, "Neoverse V3"},
        {0x41, 0xd8e, "Neoverse N3"},   {0x46, 0x001, "Fujitsu A64FX"}, {0x48, 0xd01, "Kunpeng 920"},
        {0x4e, 0x004, "NVIDIA Carmel"}, {0xc0, 0xac3, "Ampere-1"},      {0xc0, 0xac4, "Ampere-1a"},
    };
    if (!(getauxval(AT_HWCAP) & HWCAP_READS_ID))
        return;
    uint64_t id;
    __asm__("mrs %0, midr_el1" : "=r"(id));
    const unsigned implementer = id >> 24 & 0xff, part = id >> 4 & 0xfff;
    snprintf(cpu_name, sizeof cpu_name, "AArch64, implementer 0x%02x, part 0x%03x", implementer, part);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].implementer == implementer && known[i].part == part)
            strcpy(cpu_name, known[i].name);
}
#endif

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
#elif defined(__aarch64__)
    strcpy(cpu_name, "AArch64");
#if defined(__linux__)
    name_aarch64();
#endif
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
#elif defined(__linux__)
    /* ARM's cache registers are the kernel's to read; it says here what it knows, which may be nothing. */
    for (int i = 0; i < 16; i++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        FILE *f = fopen(path, "re");
        if (!f)
            break;
        long long size;
        char unit;
        if (fscanf(f, "%lld%c", &size, &unit) == 2) {
            const int64_t bytes = size * (unit == 'M' ? 1 << 20 : unit == 'K' ? 1 << 10 : 1);
            largest = bytes > largest ? bytes : largest;
        }
        fclose(f);
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
