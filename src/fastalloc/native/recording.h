/* The mapped file: created, laid out, detached, and carried over a fork. */
#ifndef FA_RECORDING_H
#define FA_RECORDING_H

#include "fastalloc.h"

/* Creates the file, reserves its disk space, maps it and writes an empty header. */
fa_status recording_create(const struct fa_config *config);

/* Puts anonymous memory in the mapping's place: the file stays as it is, late writers are safe. */
void recording_detach(void);

/* Gives back the disk space of what was never used. The file keeps its size. */
void recording_trim(void);

/* Points the region pointers into the mapping. */
void recording_bind(void);

/* fork: a copy of what is in use, made under the lock before the fork, and the child's side. */
int recording_copy_aside(void);
void recording_drop_copy(void);
int recording_continue_in_child(void);

#endif
