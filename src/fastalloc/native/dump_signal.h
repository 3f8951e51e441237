/* A signal that asks for a dump: kept ours while the recording runs. */
#ifndef FA_DUMP_SIGNAL_H
#define FA_DUMP_SIGNAL_H

void dump_signal_keep(void); /* one system call, if there is such a signal */

#endif
