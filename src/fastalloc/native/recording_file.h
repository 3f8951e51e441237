/* The file under the recording: its name, its space, its lock, and when readers may take it for a recording.
 * Async-signal-safe, all but trim: a forked child comes here with nothing else allowed.
 *
 * Law: the magic is written last, when all behind it is whole. Readers wait for it, and nobody writes into a file
 * that has none, so that no reader sees half a recording, and no word that was written into one is lost. */
#ifndef FA_RECORDING_FILE_H
#define FA_RECORDING_FILE_H

#include <stdint.h>

#include "layout.h"

/* So much of the disk shall stay free. */
void recording_file_keep_free(uint64_t bytes);

/* Opens a new file of our own at fa.path, never one that somebody put there, locks it, and reserves its space: a full
 * disk shows here, not as SIGBUS inside a hook. -1: errno and fa_error_step say why, and there is none. */
int recording_file_open(uint64_t bytes);

/* Where its pages are mapped. */
void recording_file_mapped(void *memory, uint64_t bytes);

/* Now it is a recording: what begins there. */
void recording_file_is_whole(void *header);

/* Writes the path of a recording of this process that begins then (0: now); room for sizeof fa.path. */
void recording_file_name(char *path, uint64_t start_time_ns);

/* A number in decimals, without an end; returns where it ends. */
char *recording_file_put_number(char *at, uint64_t number);

/* Lets readers see that the process lives, as long as the file is mapped. */
void recording_file_lock(int fd);

/* Gives back the disk space of what was never used. The file keeps its size. */
void recording_file_trim(void);

#endif
