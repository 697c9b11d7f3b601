package config

import "strings"

// Nearest finds the known word that was probably meant: at most two typing errors away, and no more than a third of the
// word. "" when none is near.
func Nearest(word string, known []string) string {
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	best, at := "", min(2, len(word)/3)+1
	for _, k := range known {
		if d := distance(fold(word), fold(k)); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance (optimal string alignment): insertions, deletions, substitutions
// and swaps of neighbours each count one.
func distance(a, b string) int {
	const most = 64 // longer words are no typing errors of a key
	if len(a) > most || len(b) > most {
		return most
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
