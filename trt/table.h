/*
 * The functions of the library that was opened, as a table, and calls through
 * it: nothing of the library is linked. It is included once, by abi.go.
 */
#ifndef SIGHTD_TRT_TABLE_H
#define SIGHTD_TRT_TABLE_H

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/sightd_trt.h"

#define SIGHTD_TRT_EACH(F)                                                        \
  F(abi) F(open) F(get_version) F(get_device) F(next_log) F(build)                \
  F(get_progress) F(cancel) F(load_engine) F(get_engine_info) F(inspect)          \
  F(unload) F(bind) F(get_binding_info) F(unbind) F(gather) F(start) F(wait) F(free)

#define SIGHTD_TRT_MEMBER(name) __typeof__(&sightd_trt_##name) name;
static struct {
  SIGHTD_TRT_EACH(SIGHTD_TRT_MEMBER)
} table;

/* What table_open says. */
enum { TABLE_OPEN = 0, TABLE_NOT_LOADED, TABLE_NO_SYMBOL, TABLE_OTHER_ABI };

static void table_say(char *message, size_t size, const char *text) {
  snprintf(message, size, "%s", text != NULL ? text : "the loader doesn't say why");
}

/* Has the loader open a library and fills the table. The message is what dlerror
 * says, the symbol that misses, or the library's ABI. A library that is of no use
 * is closed again. */
static int table_open(const char *path, char *message, size_t size) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    table_say(message, size, dlerror());
    return TABLE_NOT_LOADED;
  }
  /* Before the others: a library of another ABI may well miss some. */
  table.abi = (__typeof__(table.abi))dlsym(library, "sightd_trt_abi");
  if (table.abi != NULL && table.abi() != SIGHTD_TRT_ABI) {
    snprintf(message, size, "%d", (int)table.abi());
    dlclose(library);
    return TABLE_OTHER_ABI;
  }
#define SIGHTD_TRT_FIND(name)                                               \
  table.name = (__typeof__(table.name))dlsym(library, "sightd_trt_" #name); \
  if (table.name == NULL) {                                                 \
    table_say(message, size, "sightd_trt_" #name);                          \
    dlclose(library);                                                       \
    return TABLE_NO_SYMBOL;                                                 \
  }
  SIGHTD_TRT_EACH(SIGHTD_TRT_FIND)
  return TABLE_OPEN;
}

/* Whether the loader opens a library; what dlerror says if not. It stays open: most
 * likely it is opened again at once, which takes a second where it isn't there. */
static int loader_opens(const char *name, char *message, size_t size) {
  void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (library == NULL) {
    table_say(message, size, dlerror());
    return 0;
  }
  return 1;
}

/* TensorRT's version as its library says it and writes it; 0 where it doesn't. The
 * library stays open, as above. */
static int nvinfer_version(const char *name) {
  void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  int32_t (*version)(void) = library != NULL ? (int32_t (*)(void))dlsym(library, "getInferLibVersion") : NULL;
  return version != NULL ? version() : 0;
}

/* Go's runtime would catch these, print all stacks, and exit with status 2: the
 * parent is to see the signal. */
static void die_of_signals(void) {
  signal(SIGABRT, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
  signal(SIGFPE, SIG_DFL);
  signal(SIGILL, SIG_DFL);
  signal(SIGSEGV, SIG_DFL);
}

static int call_open(const char *nvinfer, char *m, size_t n) { return table.open(nvinfer, m, n); }
static int call_version(struct sightd_trt_version *v) { return table.get_version(v); }
static int call_device(struct sightd_trt_device *d, char *m, size_t n) { return table.get_device(d, m, n); }
static int call_next_log(int32_t *s, char *line, size_t n, uint64_t *dropped) { return table.next_log(s, line, n, dropped); }
static int call_build(const struct sightd_trt_job *j, struct sightd_trt_built *b, char *m, size_t n) { return table.build(j, b, m, n); }
static int call_progress(struct sightd_trt_progress *p) { return table.get_progress(p); }
static int call_cancel(void) { return table.cancel(); }
static int call_load(const struct sightd_trt_load *l, void **e, char *m, size_t n) {
  sightd_trt_engine *made = NULL;
  int status = table.load_engine(l, &made, m, n);
  *e = made;
  return status;
}
static int call_engine_info(void *e, struct sightd_trt_engine_info *i) { return table.get_engine_info(e, i); }
static int call_inspect(void *e, struct sightd_trt_buffer *b, char *m, size_t n) { return table.inspect(e, b, m, n); }
static void call_unload(void *e) { table.unload(e); }
static int call_bind(void *e, const void *pixels, size_t size, int32_t images, void **b, void **scores, char *m, size_t n) {
  sightd_trt_binding *made = NULL;
  const float *values = NULL;
  int status = table.bind(e, pixels, size, images, &made, &values, m, n);
  *b = made;
  *scores = (void *)values;
  return status;
}
static int call_binding_info(void *b, struct sightd_trt_binding_info *i) { return table.get_binding_info(b, i); }
static void call_unbind(void *b) { table.unbind(b); }
static int call_gather(void *b, int32_t image, const void *from, char *m, size_t n) { return table.gather(b, image, from, m, n); }
static int call_start(void *b, int32_t lane, char *m, size_t n) { return table.start(b, lane, m, n); }
static int call_wait(void *b, char *m, size_t n) { return table.wait(b, m, n); }
static void call_free(struct sightd_trt_buffer *b) { table.free(b); }

#endif
