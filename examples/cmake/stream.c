/* Filters a stream of signals with the same weights: chosen and packed once, run for every signal. */
#include <convcore.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUT, OUTPUT, WORKSPACE, BUFFERS };
enum { LENGTH = 8, TAPS = 3, SIGNALS = 3 };

/* One channel of a signal in C order: (n, d, h, w, c) = (1, 1, 1, length, 1). */
static cc_view signal_view(int buffer, int64_t length)
{
    return (cc_view){
        .buffer = buffer, .type = CC_F32, .rank = 5, .shape = {1, 1, 1, length, 1}, .ld = {length, length, length, 1, 1}};
}

static void *aligned(int64_t bytes) { return aligned_alloc(64, ((size_t)bytes + 64) / 64 * 64); }

static void stop_unless_ok(cc_status status)
{
    if (status != CC_OK) {
        fprintf(stderr, "%s\n", cc_status_text(status));
        exit(1);
    }
}

int main(void)
{
    cc_isa isa;
    stop_unless_ok(cc_default_isa(&isa));
    cc_step step = {
        .operation = CC_CONV,
        .isa = isa,
        .in = signal_view(INPUT, LENGTH),
        .out = signal_view(OUTPUT, LENGTH - TAPS + 1),
        .window = {.kernel = {1, 1, TAPS}, .stride = {1, 1, 1}, .dilation = {1, 1, 1}},
        .groups = 1,
        .activation = {.kind = CC_RELU},
        .workspace_buffer = WORKSPACE,
    };
    stop_unless_ok(cc_choose(&step));

    const float rise[TAPS] = {-1, 0, 1};
    float *packed = aligned(step.packed_floats * (int64_t)sizeof *packed);
    void *workspace = aligned(step.workspace_bytes);
    if (!packed || !workspace)
        stop_unless_ok(CC_ERROR_MEMORY);
    stop_unless_ok(cc_pack(&step, rise, NULL, packed));
    step.weights = packed;

    for (int signal = 0; signal < SIGNALS; signal++) {
        float x[LENGTH], y[LENGTH - TAPS + 1];
        for (int i = 0; i < LENGTH; i++)
            x[i] = (float)((i * (signal + 2)) % 5);
        stop_unless_ok(cc_run(&step, 1, (void *[BUFFERS]){x, y, workspace}, NULL));
        for (int i = 0; i < LENGTH - TAPS + 1; i++)
            printf("%2g", y[i]);
        printf("\n");
    }
    free(packed);
    free(workspace);
    return 0;
}
