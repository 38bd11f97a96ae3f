/* The least that a C program does with the installed package. */
#include <stdio.h>
#include <string.h>
#include <warpheap/warpheap.h>

int main(void) {
  warpheap_heap* heap = warpheap_create(NULL);
  char* text = warpheap_malloc(heap, 100);
  if (text == NULL) {
    fprintf(stderr, "%s\n", warpheap_last_error());
    return 1;
  }
  strcpy(text, "in C");
  puts(text);
  warpheap_free(heap, text);
  warpheap_destroy(heap);
  return 0;
}
