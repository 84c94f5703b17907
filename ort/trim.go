package ort

/*
#include <malloc.h>

static void trim(void) {
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}
*/
import "C"

// trim gives the system back what the C library keeps of freed memory. It has an arena
// for each of several threads; what a graph or an engine took there is otherwise held
// until the same arena is used again, so that a process that builds engine after
// engine grows by an engine for each arena.
func trim() { C.trim() }
