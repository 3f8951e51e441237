/* The Python stack of the calling thread, read from the interpreter's own frames.
 *
 * `_nopy`: makes no call that could allocate, take a lock, raise or run Python. Pointers are
 * borrowed: they are valid while the frames they came from are, that is, until the hook returns.
 */
#ifndef FA_STACK_H
#define FA_STACK_H

#include <stddef.h>
#include <stdint.h>

enum frame_kind { FRAME_PYTHON, FRAME_NATIVE };

struct raw_frame {
    const void *code;  /* a native frame's: the linker's entry of its module */
    uint64_t identity; /* tells a code object, or a module, from a later one at the same address */
    int32_t lasti;     /* a native frame's: the offset in its module */
    uint32_t kind;     /* enum frame_kind */
};

/* Multiplied, both: an identity may be a small number, which changes the bits of addresses that neighbours differ in. */
static inline uint64_t frame_hash(const struct raw_frame *frame)
{
    return ((uintptr_t)frame->code ^ frame->identity * 0x9E3779B97F4A7C15ull) +
           (uint64_t)(uint32_t)frame->lasti * 0xD6E8FEB86659FD93ull;
}

#define FA_MAX_STACK (FA_MAX_FRAMES + FA_MAX_NATIVE_FRAMES)

/* Fills `frames` leaf first. Returns how many; -1: this thread has no Python stack now. `cut`:
 * there were more. `hash`: of the frames returned. */
int stack_walk_nopy(struct raw_frame *frames, int capacity, uint64_t *hash, int *cut);

/* An address inside the C frame of the eval loop that runs the newest Python frames: where native frames end.
 * 0: no Python runs in this thread. 1: not found in reasonable time. */
uintptr_t stack_native_limit_nopy(void);

/* Identity of the running Python context; NULL if there is none. */
const void *stack_context_nopy(void);

/* Is this a thread that Python knows? */
int stack_has_python_nopy(void);

int32_t stack_line_nopy(const struct raw_frame *frame);

struct code_names {
    char function[512]; /* qualified name, UTF-8 */
    char file[1024];
    size_t function_bytes;
    size_t file_bytes;
    int32_t first_line;
    uint32_t line_table_hash;
};
void stack_names_nopy(const struct raw_frame *frame, struct code_names *names);

#endif
