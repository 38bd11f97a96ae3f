/* A program without a C++ runtime of its own: c_program alone|throw|plugin PLUGIN. Its exit status
 * says which of its checks failed. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile size_t too_much = SIZE_MAX / 4;

static void* function(void* library, const char* name) {
  void* f = dlsym(library, name);
  if (f != NULL) return f;
  fprintf(stderr, "%s\n", dlerror());
  exit(90);
}

int main(int argc, char** argv) {
  if (argc != 3) return 91;
  if (strcmp(argv[1], "alone") == 0) {
    void* (*quiet)(size_t, const void*) =
        (void* (*)(size_t, const void*))function(RTLD_DEFAULT, "_ZnwmRKSt9nothrow_t");
    char nothrow = 0;
    if (dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD) != NULL) return 1;
    if (dlopen("libgcc_s.so.1", RTLD_LAZY | RTLD_NOLOAD) != NULL) return 2;
    if (quiet(too_much, &nothrow) != NULL) return 3;
    if (dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD) != NULL) return 4;
    free(malloc(100));
    return 0;
  }
  if (strcmp(argv[1], "throw") == 0) {
    void* (*make)(size_t) = (void* (*)(size_t))function(RTLD_DEFAULT, "_Znwm");
    return make(too_much) != NULL ? 5 : 6;
  }
  if (strcmp(argv[1], "plugin") == 0) {
    void* plugin = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 7;
    }
    return ((int (*)(void))function(plugin, "plugin_new_fails"))();
  }
  return 92;
}
