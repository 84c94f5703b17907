package ort

/*
#include <malloc.h>

static void trim(void) {
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

static void tame(void) {
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	mallopt(M_ARENA_MAX, 2);
#endif
}
*/
import "C"

// trim gives the system back what the C library keeps of freed memory. It has an arena
// for each of several threads; what a graph or an engine took there is otherwise held
// until the same arena is used again, so that a process that builds engine after
// engine grows by an engine for each arena.
func trim() { C.trim() }

// tame has the C library leave less behind that trim can't give back, since a few bytes
// that live on hold all around them. What is large, weights above all, is mapped by
// itself and gone when it is freed: without a word glibc maps ever larger pieces only, up to
// 32 MiB, once it has seen such freed. And there are two arenas instead of eight a core, of
// which each engine in turn would fill another. Runs don't notice: a session keeps the
// memory that they work in.
func tame() { C.tame() }
