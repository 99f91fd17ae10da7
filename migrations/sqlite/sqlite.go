// Package sqlite holds the schema of a Rowlock database on SQLite, one numbered file per version. Files are forward
// only and never change once released.
package sqlite

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
