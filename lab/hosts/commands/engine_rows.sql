-- SPDX-License-Identifier: GPL-3.0-or-later
-- What a Manager in use holds, apart from its machines, which lab/hosts/link.py writes from the API's own state.
insert into async_tasks (task_id, action_type) select gen_random_uuid(), 1 from generate_series(1, 2);
insert into job select gen_random_uuid(), 'AddDisk', 'Creating a disk', 'FINISHED' from generate_series(1, 20);
insert into images select gen_random_uuid(), i * 1024::bigint, 1 from generate_series(1, 2000) i;
insert into audit_log (log_type_name, log_type, severity, message)
    select 'USER_VDC_LOGIN', 30, 0, 'User admin@internal connecting from 192.0.2.' || i || ' logged in.' from generate_series(1, 200) i;
