-- The nodes of a cluster that it is charged for: the share of the CPUs or of the memory for a part of one; 0 for machines without nodes.
ALTER TABLE machine ADD COLUMN nodes REAL NOT NULL DEFAULT 0;
