/*
 * The C interface between sightd and TensorRT.
 *
 * It is implemented by a small shared library that is compiled once for each
 * major version of TensorRT (libsightd-trt8.so, -trt10.so, -trt11.so; trt/shim),
 * and, for tests, by a double that needs no NVIDIA software (trt/double).
 *
 * No type of TensorRT or CUDA crosses it: handles are opaque, results are
 * integers, text is copied out into the caller's memory. Nothing throws across
 * it, and nothing calls back: what TensorRT logs and how far a build is are
 * asked for. Each struct begins with its size, set by the caller, so that a
 * library and a program of different ages find out.
 *
 * Every function that can fail takes `message`, `message_size` bytes of the
 * caller's, and leaves there, cut to size and ended by NUL, what went wrong; ""
 * after success.
 */
#ifndef SIGHTD_TRT_H
#define SIGHTD_TRT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIGHTD_TRT_ABI 2
#define SIGHTD_TRT_API __attribute__((visibility("default")))

/* What functions return. */
enum {
  SIGHTD_TRT_OK = 0,
  SIGHTD_TRT_ARGUMENT = 1,  /* the caller's mistake */
  SIGHTD_TRT_MISSING = 2,   /* a library isn't there, or misses a part */
  SIGHTD_TRT_VERSION = 3,   /* a library of another version than this one is made for */
  SIGHTD_TRT_NO_DEVICE = 4, /* no GPU, no driver, or a driver too old */
  SIGHTD_TRT_MEMORY = 5,    /* no memory left, on the device or the host */
  SIGHTD_TRT_MODEL = 6,     /* the ONNX model can't be taken as it is */
  SIGHTD_TRT_CACHE = 7,     /* the calibration cache was refused, or the calibration failed */
  SIGHTD_TRT_PLAN = 8,      /* the plan is damaged, or made for another version or device */
  SIGHTD_TRT_CANCELLED = 9,
  SIGHTD_TRT_UNSUPPORTED = 10, /* this version or device can't do that */
  SIGHTD_TRT_FAILED = 11,      /* TensorRT or CUDA failed otherwise */
  /* 12 is sightd's own: the process ended without a word */
  SIGHTD_TRT_BROKEN = 13 /* CUDA failed so that nothing works any more in this process, whatever is tried */
};

/* Kinds of calibrator, as a calibration cache's header names them. */
enum {
  SIGHTD_TRT_NO_CALIBRATOR = 0,
  SIGHTD_TRT_ENTROPY_2 = 1,
  SIGHTD_TRT_MINMAX = 2,
  SIGHTD_TRT_ENTROPY = 3,
  SIGHTD_TRT_LEGACY = 4
};

/* Severities of log lines, as TensorRT counts them. */
enum { SIGHTD_TRT_INTERNAL_ERROR = 0, SIGHTD_TRT_ERROR = 1, SIGHTD_TRT_WARNING = 2, SIGHTD_TRT_INFO = 3, SIGHTD_TRT_VERBOSE = 4 };

/* Types of an engine's input and output. */
enum { SIGHTD_TRT_UINT8 = 1, SIGHTD_TRT_INT8 = 2, SIGHTD_TRT_FLOAT = 3, SIGHTD_TRT_HALF = 4 };

/* Memory that a function made; sightd_trt_free gives it back. */
struct sightd_trt_buffer {
  void *data;
  size_t size;
};

/* Versions, as major × 10000 + minor × 100 + patch; 0: not known. */
struct sightd_trt_version {
  size_t size;
  int32_t compiled; /* the TensorRT whose headers this library was compiled with */
  int32_t found;    /* the TensorRT that was opened */
  int32_t parser;   /* its ONNX parser; 0 until a build asks for it */
  int32_t cuda;     /* the newest CUDA that the driver takes */
};

struct sightd_trt_device {
  size_t size;
  char name[256];
  int32_t major, minor; /* compute capability */
  int32_t integrated;   /* it shares the host's memory, as a Jetson's GPU does */
  int32_t dla_cores;    /* as TensorRT counts them */
  uint64_t memory;      /* bytes in all */
  uint64_t free;        /* bytes not in use now */
  char uuid[64];
};

/* One build. What pointers show stays the caller's and isn't changed. */
struct sightd_trt_job {
  size_t size;
  const void *onnx; /* an encoded ONNX model without external data */
  size_t onnx_size;

  /* INT8. */
  int32_t int8;           /* with quantisation from a cache or by the graph's Q/DQ nodes */
  int32_t fp16;           /* what isn't INT8 may be FP16 */
  int32_t strongly_typed; /* types are the graph's alone; int8 and fp16 are 0 then */
  int32_t calibrator;     /* kind */
  const void *cache;      /* calibration table whose header this TensorRT takes; NULL: none */
  size_t cache_size;
  const char *const *keep; /* tensors whose makers stay in floating point */
  int32_t keep_count;

  /* Calibration on the device: where no cache is given, or it is refused, images are
   * read here as TensorRT asks for them, once and to the end: packed 8-bit RGB, height
   * × width × 3 bytes each, behind each other. Without images that fails the build with
   * SIGHTD_TRT_CACHE. */
  int32_t images; /* file descriptor, which stays the caller's; -1: none */
  /* For a graph whose input is float N×C×H×W: the value of byte b in channel c of
   * the network is table[c × 256 + b], and the byte is the pixel's channels[c]-th. */
  const float *table;
  int32_t channels[3];
  int32_t channel_count; /* 0: the graph takes the bytes themselves */

  /* The builder. */
  int32_t batch;             /* most images in a run; > 1 with a graph whose batch is open: a profile from 1 */
  uint64_t workspace;        /* bytes at most; 0: TensorRT's default, all */
  uint64_t tactic_memory;    /* bytes at most that trying tactics may take; 0: the default */
  int32_t optimisation;      /* builder optimisation level, 0 to 5; -1: the default */
  int32_t force_int8;        /* every layer that can is INT8 whatever it costs: for tests of a cache */
  const void *timing_cache;  /* of an earlier build; NULL: none */
  size_t timing_cache_size;

  /* DLA. */
  int32_t dla_core;      /* core to build for, from 0; -1: the GPU */
  int32_t gpu_fallback;  /* layers that DLA can't run go to the GPU; else the build fails */
  int32_t direct_input;  /* the second form: input is INT8 in DLA's own format, output FP16 */
  float input_scale;     /* of direct_input's INT8 */
};

/* How far a build is. */
struct sightd_trt_progress {
  size_t size;
  char phase[128];    /* TensorRT's own name for it, or sightd's: "parse", "build", "serialise" */
  int32_t step, steps; /* steps 0: not known */
};

struct sightd_trt_built {
  size_t size;
  struct sightd_trt_buffer plan;
  struct sightd_trt_buffer timing_cache;
  struct sightd_trt_buffer cache; /* the calibration table that a calibration on the device wrote; empty: none */
  struct sightd_trt_buffer dla;   /* one line a layer, "1 name" or "0 name": whether DLA can run it; empty without DLA */
  int32_t timing_refused;         /* the timing cache that was given couldn't be used */
};

struct sightd_trt_load {
  size_t size;
  const void *plan;
  size_t plan_size;
  int32_t dla_core; /* core to run on, from 0; -1: the GPU */
  int32_t lanes;    /* execution contexts with a stream each, 1 to 8 */
  int32_t graphs;   /* capture CUDA graphs where that works */
  /* direct input: what a pixel's channels[c]-th byte is in channel c; NULL: bytes go as they are */
  const int8_t *table;
  int32_t channels[3];
  int32_t channel_count;
  int32_t softmax; /* scores are made of the output by softmax, on the host */
};

/* What a loaded engine takes and gives. */
struct sightd_trt_engine_info {
  size_t size;
  int32_t batch; /* most images in a run */
  int32_t height, width;
  int32_t classes;
  int32_t input_type, output_type;
  int32_t lanes;
  uint64_t device_memory; /* bytes that its contexts need, weights included where TensorRT tells */
};

/* What a binding's runs used: for tests and reports. */
struct sightd_trt_binding_info {
  size_t size;
  int32_t registered; /* the pixels are read where they lie; 0: each run copies them to pinned memory first */
  int32_t graphs;     /* runs are launched as CUDA graphs */
};

typedef struct sightd_trt_engine sightd_trt_engine;
typedef struct sightd_trt_binding sightd_trt_binding;

/* SIGHTD_TRT_ABI of the library. */
SIGHTD_TRT_API int32_t sightd_trt_abi(void);

/* Opens the driver and TensorRT. `nvinfer` is a path or a name for the loader; ""
 * is libnvinfer.so.MAJOR. Called once a process; again it does nothing. */
SIGHTD_TRT_API int32_t sightd_trt_open(const char *nvinfer, char *message, size_t message_size);

/* Fills in what is known so far, also before open. */
SIGHTD_TRT_API int32_t sightd_trt_get_version(struct sightd_trt_version *);

/* The first GPU. Needs open. */
SIGHTD_TRT_API int32_t sightd_trt_get_device(struct sightd_trt_device *, char *message, size_t message_size);

/* Takes the oldest line, of SIGHTD_TRT_INFO or worse, that TensorRT logged in this
 * process, and copies it out; returns 0 when there is none. Lines that nobody takes are dropped, the oldest
 * first, beyond 4096; *dropped counts them. May be called while another thread
 * builds. */
SIGHTD_TRT_API int32_t sightd_trt_next_log(int32_t *severity, char *line, size_t line_size, uint64_t *dropped);

/* Builds an engine. One at a time in a process. It may take minutes; meanwhile
 * another thread asks for the progress and may cancel. */
SIGHTD_TRT_API int32_t sightd_trt_build(const struct sightd_trt_job *, struct sightd_trt_built *, char *message, size_t message_size);
SIGHTD_TRT_API int32_t sightd_trt_get_progress(struct sightd_trt_progress *);
/* Has the build end soon; where TensorRT can't (before 10), it ends the wait alone
 * by process exit, which is the caller's to do. Returns 1 where TensorRT listens. */
SIGHTD_TRT_API int32_t sightd_trt_cancel(void);

/* Deserialises a plan. The plan's bytes are no longer needed afterwards. */
SIGHTD_TRT_API int32_t sightd_trt_load_engine(const struct sightd_trt_load *, sightd_trt_engine **, char *message, size_t message_size);
SIGHTD_TRT_API int32_t sightd_trt_get_engine_info(const sightd_trt_engine *, struct sightd_trt_engine_info *);
/* The engine inspector's JSON. */
SIGHTD_TRT_API int32_t sightd_trt_inspect(sightd_trt_engine *, struct sightd_trt_buffer *, char *message, size_t message_size);
/* Waits for runs, frees all that the engine's bindings hold, and the engine. */
SIGHTD_TRT_API void sightd_trt_unload(sightd_trt_engine *);

/* Prepares `images` images at `pixels`, packed 8-bit RGB, images × height × width × 3,
 * to be read by each start. The memory stays the caller's and must outlive the
 * binding; where CUDA can it is registered. *scores, images × classes floats, is the
 * binding's own. */
SIGHTD_TRT_API int32_t sightd_trt_bind(sightd_trt_engine *, const uint8_t *pixels, size_t pixels_size, int32_t images,
                                       sightd_trt_binding **, const float **scores, char *message, size_t message_size);
SIGHTD_TRT_API int32_t sightd_trt_get_binding_info(const sightd_trt_binding *, struct sightd_trt_binding_info *);
SIGHTD_TRT_API void sightd_trt_unbind(sightd_trt_binding *);

/* Has the next runs read an image where that of another binding lies, which is of one
 * image and of the same engine and isn't running: images that lie apart run together
 * without having been copied behind each other. NULL: from the binding's own memory
 * again, as is so once the other is unbound. */
SIGHTD_TRT_API int32_t sightd_trt_gather(sightd_trt_binding *, int32_t image, const sightd_trt_binding *from,
                                         char *message, size_t message_size);

/* Starts a run on a lane, which has to be idle, as has the binding. The pixels are
 * read until wait returns. */
SIGHTD_TRT_API int32_t sightd_trt_start(sightd_trt_binding *, int32_t lane, char *message, size_t message_size);
/* Waits for the run and fills the scores. */
SIGHTD_TRT_API int32_t sightd_trt_wait(sightd_trt_binding *, char *message, size_t message_size);

SIGHTD_TRT_API void sightd_trt_free(struct sightd_trt_buffer *);

#ifdef __cplusplus
}
#endif
#endif
