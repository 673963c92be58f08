/* Calls a compiled image classifier and writes what it computes to standard output, for tests/aot.rs to compare.
 *
 *     cc -DHEADER='"m.h"' -DMODEL=digits -DPIXELS=64 -DCLASSES=10 -DBATCH=32 main.c m.o
 *     ./a.out PARAMETERS IMAGES LABELS STEPS ROWS
 *
 * PARAMETERS is the data section of a weight file, IMAGES raw bytes, LABELS raw int32. Written in this order: the
 * parameters that `init` makes from seed 7; the loss of each training step from PARAMETERS; the parameters after the
 * steps; the class probabilities of the first ROWS images. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

#define PASTE(a, b) a##_##b
#define NAME(a, b) PASTE(a, b)
#define PARAMS NAME(MODEL, params)
#define STATE NAME(MODEL, state)

static void fail(const char *what) {
    fprintf(stderr, "aot test program: %s\n", what);
    exit(1);
}

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory) fail("out of memory");
    return memory;
}

/* The content of a file, which must have exactly `bytes` bytes unless that is 0. */
static void *load(const char *path, size_t bytes) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail("cannot open a file");
    size_t found = (size_t)ftell(file);
    if (bytes && found != bytes) fail("a file has another size than its struct");
    void *memory = allocate(found);
    rewind(file);
    if (fread(memory, 1, found, file) != found) fail("cannot read a file");
    fclose(file);
    return memory;
}

static void put(const void *memory, size_t bytes) {
    if (fwrite(memory, 1, bytes, stdout) != bytes) fail("cannot write");
}

int main(int count, char **arguments) {
    if (count != 6) fail("usage: PARAMETERS IMAGES LABELS STEPS ROWS");
    const size_t batch = BATCH;
    const size_t steps = strtoul(arguments[4], NULL, 10), rows = strtoul(arguments[5], NULL, 10);
    PARAMS *params = allocate(sizeof *params);
    STATE *state = allocate(sizeof *state);
    void *workspace = allocate(NAME(MODEL, workspace_bytes)());
    float *probs = allocate((rows + 1) * CLASSES * sizeof *probs);

    if (NAME(MODEL, init)(params, state, 7, workspace)) fail("init");
    put(params, sizeof *params);

    memcpy(params, load(arguments[1], sizeof *params), sizeof *params);
    const uint8_t *images = load(arguments[2], 0);
    const int32_t *labels = load(arguments[3], 0);
    for (size_t step = 0; step < steps; step++) {
        float ce;
        if (NAME(MODEL, train_step)(params, state, images + step * batch * PIXELS, labels + step * batch, &ce, workspace))
            fail("train_step");
        put(&ce, sizeof ce);
    }
    put(params, sizeof *params);

    /* No sample is a legal number of samples and touches nothing. */
    probs[rows * CLASSES] = 42.0f;
    if (NAME(MODEL, infer)(params, images, probs + rows * CLASSES, 0, workspace)) fail("infer of no sample");
    if (NAME(MODEL, infer)(params, images, probs, rows, workspace)) fail("infer");
    if (probs[rows * CLASSES] != 42.0f) fail("infer wrote too far");
    put(probs, rows * CLASSES * sizeof *probs);
    return 0;
}
