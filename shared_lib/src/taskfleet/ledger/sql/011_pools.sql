-- The manager whose tasks the machine was launched for; 0 for the default one.
ALTER TABLE machine ADD COLUMN manager_id INTEGER NOT NULL DEFAULT 0;
