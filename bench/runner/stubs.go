package main

type (
	downCmd  struct{}
	pickCmd  struct{}
	peersCmd struct{}
)
