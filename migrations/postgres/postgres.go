// Package postgres holds the schema of a Rowlock database on Postgres, one numbered file per version. Files are forward
// only and never change once released.
package postgres

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
