// Linear layers in bfloat16 on a CPU with AMX, of weights that are laid out as tiles when the model is loaded.
//
// A task is a block of rows by some panels of 32 outputs each. A sum goes up the inputs in float32 and in one order,
// whatever the block and however many threads: a row's outputs do not depend on the rows beside it. Compiled and called
// by amx_linear.py, which checks the arguments.

#include "amx.h"

#define STEPS 16               // 512 inputs: of these 32 rows stay in the first cache, through which weights stream
#define DEEP_STEPS 64          // 2,048 inputs, after which sums go to memory
#define WEIGHTS_NEAR (3 << 18)  // bytes of weights that stay in the second cache while rows go by
#define MOST_ROWS 1024         // of a task

enum { PLAIN, SILU, GELU };

typedef struct {
    const bfloat16 *rows, *weight, *bias;  // bias: NULL or one for each output
    bfloat16 *output;
    int64_t count, inputs, panels;
    int activation;  // PLAIN, or a panel has 16 gates and 16 values that they let through, so 16 outputs
} Linear;

typedef struct {
    bfloat16 *rows;  // of a task, copied: 32 by 32, and of these 512 inputs by 512
    float *sums;
} Scratch;

// The outputs of 32 rows or fewer in a panel.
INLINE void finish(const Linear *given, const float *sums, int64_t row, int64_t count, int64_t panel) {
    int64_t width = given->panels * (given->activation == PLAIN ? 32 : 16);
    bfloat16 *output = given->output + row * width;
    for (int64_t i = 0; i < count; i++, sums += ROWS, output += width) {
        floats first = _mm512_loadu_ps(sums), second = _mm512_loadu_ps(sums + 16);
        if (given->activation == PLAIN) {
            if (given->bias) {
                first = _mm512_add_ps(first, load(given->bias, panel * 32, 0xFFFF, 1));
                second = _mm512_add_ps(second, load(given->bias, panel * 32 + 16, 0xFFFF, 1));
            }
            _mm512_storeu_si512(output + panel * 32, (__m512i)_mm512_cvtne2ps_pbh(second, first));
        } else {
            store(output, panel * 16, 0xFFFF, _mm512_mul_ps(activated(first, given->activation == GELU, 1), second), 1);
        }
    }
}

INLINE int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }

// So many panels are multiplied with 32 rows before the next 32.
INLINE int64_t panels_near(int64_t inputs) {
    return WEIGHTS_NEAR / (least(inputs / 32, DEEP_STEPS) * 2 * TILE * (int64_t)sizeof(bfloat16));
}

// Rows that are a multiple of 2 KB long would push each other out of the first cache.
INLINE int is_copied(int64_t inputs) { return inputs > STEPS * 32 && inputs % 1024 == 0; }

// 32 rows, or fewer and zeros.
static void copy_rows(const bfloat16 *rows, int64_t count, int64_t inputs, bfloat16 *copy) {
    for (int64_t first = 0; first < inputs; first += STEPS * 32)
        for (int64_t i = 0, width = least(inputs - first, STEPS * 32); i < ROWS; i++, copy += width) {
            if (i < count) memcpy(copy, rows + i * inputs + first, width * sizeof *copy);
            else memset(copy, 0, width * sizeof *copy);
        }
}

static void compute(const Linear *given, const Scratch *own, int64_t row, int64_t count, int64_t first, int64_t end) {
    int64_t inputs = given->inputs, all_steps = inputs / 32, blocks = up(count) / ROWS;
    int64_t direct = is_copied(inputs) ? 0 : count / ROWS;  // blocks that are read where they are
    const bfloat16 *rows = given->rows + row * inputs;
    for (int64_t i = direct; i < blocks; i++)
        copy_rows(rows + i * ROWS * inputs, count - i * ROWS, inputs, own->rows + (i - direct) * ROWS * inputs);
    int64_t together = panels_near(inputs), is_deep = all_steps > DEEP_STEPS, lines = is_deep ? 0 : (32 + together - 1) / together;
    for (int64_t group = first; group < end; group += together)
        for (int64_t deep = 0; deep < all_steps; deep += DEEP_STEPS)
            for (int64_t i = 0; i < blocks; i++) {
                const bfloat16 *block = i < direct ? rows + i * ROWS * inputs : own->rows + (i - direct) * ROWS * inputs;
                const char *later = (const char *)(block + ROWS * inputs);
                float *sums = own->sums + (is_deep ? i * together * ROWS * ROWS : 0);
                int64_t deep_end = least(deep + DEEP_STEPS, all_steps);
                for (int64_t step = deep; step < deep_end; step += STEPS) {
                    int64_t steps = least(deep_end - step, STEPS);
                    for (int64_t panel = group; panel < least(end, group + together); panel++) {
                        float *of_panel = sums + (all_steps > STEPS ? (panel - group) * ROWS * ROWS : 0);
                        const bfloat16 *weight = given->weight + (panel * all_steps + step) * 2 * TILE;
                        multiply(block + step * 32 * (i < direct ? 1 : ROWS), i < direct ? inputs : steps * 32, weight, 2 * TILE, TILE, steps, of_panel, ROWS, step > 0, later, lines);
                        later += steps * lines * 64;
                        if (step + steps == all_steps)
                            finish(given, of_panel, row + i * ROWS, least(count - i * ROWS, ROWS), panel);
                    }
                }
            }
}

// 0: done; 1: out of memory.
int linear(const Linear *given, int threads) {
    int failed = 0;
    if (!given->count) return 0;
    int64_t count = given->count, rows = least(up((count + threads - 1) / threads), MOST_ROWS);
    int64_t blocks = (count + rows - 1) / rows, parts = (threads + blocks - 1) / blocks;
    int64_t panels = (given->panels + parts - 1) / parts;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        int64_t sums = 4 * ROWS * panels_near(given->inputs) * (given->inputs / 32 > DEEP_STEPS ? rows : ROWS);
        int64_t copied = 2 * given->inputs * (is_copied(given->inputs) ? rows : ROWS);
        char *memory = aligned_alloc(64, sums + copied);
        Scratch own = {(bfloat16 *)(memory + sums), (float *)memory};
        failed = memory == NULL;
        if (memory) configure();
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t row = 0; row < count; row += rows)
            for (int64_t first = 0; first < given->panels; first += panels) {
                int64_t end = first + panels < given->panels ? first + panels : given->panels;
                if (memory) compute(given, &own, row, count - row < rows ? count - row : rows, first, end);
            }
        if (memory) _tile_release();
        free(memory);
    }
    return failed;
}
