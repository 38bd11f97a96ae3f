package main

import (
	"os"
	"strconv"
	"strings"
)

// statusKiB is a size of /proc/self/status in KiB, such as that of "VmRSS:"; 0 where there is no
// such line.
func statusKiB(key string) int {
	text, _ := os.ReadFile("/proc/self/status")
	words := strings.Fields(string(text))
	for i, word := range words {
		if word == key && i+1 < len(words) {
			value, _ := strconv.Atoi(words[i+1])
			return value
		}
	}
	return 0
}
