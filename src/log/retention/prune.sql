-- Drops the entries with a stamp below $1, and marks each table that had some: older cursors are reset. What `disable` is just dropping is
-- not waited for. Gives how many entries there were.
WITH old AS (
    SELECT c.ctid FROM snapsync.change AS c
    WHERE c.stamp < $1 AND NOT EXISTS (SELECT FROM snapsync.early AS w WHERE w.early = c.stamp AND w.stamp >= $1)
    FOR UPDATE OF c SKIP LOCKED),
dropped AS (
    DELETE FROM snapsync.change AS c USING old WHERE c.ctid = old.ctid RETURNING c.relation, c.op, c.stamp),
marks AS (
    INSERT INTO snapsync.change (relation, ord, stamp, op, key)
    SELECT DISTINCT relation, 0, $1 - 1, 'R'::"char", '' FROM dropped)
SELECT count(*) FROM dropped WHERE NOT (op = 'R' AND stamp = $1 - 1)
