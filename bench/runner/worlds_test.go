package main

import "testing"

// With a few worlds of trouble it happens that with each of the policies clearly more or fewer requests fail than with least_conn.
func TestWorldsOfWhichNoneIsComparedAreATableAllTheSame(t *testing.T) {
	all := []random{{Learned: [2]float64{1.1, 1.2}}}
	rows := overWorlds(all).Rows
	if len(rows) != 4 || rows[0][2] != "" || rows[0][7] != "0 of 0" || rows[2][2] != "1.1000" {
		t.Errorf("%q", rows)
	}
}
